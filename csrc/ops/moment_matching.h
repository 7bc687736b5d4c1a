// gencond::moment_matching(Tensor features, Tensor labels, Tensor target_count, Tensor target_mean,
//                          Tensor target_m2, float mean_weight, float std_weight, int? stored)
//     -> (Tensor loss, Tensor count, Tensor mean, Tensor grad_mean, Tensor grad_m2)
//
// features [N, D] and labels [N] as of class_moments (ops/class_moments.h), of which count and mean
// come; target_count [C] int64, target_mean and target_m2 [C, D] float32 or float64.
//
// loss [] in the dtype of mean, a sum over the classes with samples on both sides:
//   mean_weight (|mean - target_mean|^2 - v) + std_weight |sigma - target_sigma|^2,
// sigma^2 = m2 / (count - 1), the second part for classes of two samples or more on both sides.
// v = (1 - count / stored) sum(m2) / (count (count - 1)) is the variance that mean has from drawing
// count of the stored samples of a class; 0 without `stored`, or for one sample. count > stored is
// a ValueError.
//
// grad_mean and grad_m2 [C, D] are the derivatives of loss by mean and m2, sigma's taken as 0 where
// it is 0; those by the features come of class_moments_backward. Besides these tables, at most two
// more of their size are held.
//
// Determinism: as class_moments.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace gencond {

// Raises ValueError if a class has more samples than are stored of it.
void check_stored(int64_t label, int64_t count, std::optional<int64_t> stored);

}  // namespace gencond
