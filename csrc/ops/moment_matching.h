// gencond::moment_matching(Tensor features, Tensor labels, Tensor target_count, Tensor target_mean,
//                          Tensor target_m2, float mean_weight, float std_weight, int? stored)
//     -> (Tensor loss, Tensor count, Tensor mean, Tensor grad_mean, Tensor grad_m2)
//
// features [N, D] and labels [N] are those of class_moments (ops/class_moments.h); count and mean
// are its results. target_count [C] is int64, target_mean and target_m2 [C, D] float32 or float64.
//
// loss [] has the dtype of mean. It is the sum over the classes with samples on both sides of
//   mean_weight (|mean - target_mean|^2 - v) + std_weight |sigma - target_sigma|^2,
// where sigma^2 = m2 / (count - 1); only classes of two samples or more on both sides have the
// second term. v = (1 - count / stored) sum(m2) / (count (count - 1)) is the variance of the mean
// that comes from drawing only count of the stored samples of a class. It is 0 without `stored`, or
// for one sample. count > stored is a ValueError.
//
// grad_mean and grad_m2 [C, D] are the derivatives of loss by mean and m2; the derivative by sigma
// is taken as 0 where sigma is 0. class_moments_backward turns them into the derivative by the
// features. The op needs memory for at most two more tables of this size.
//
// Determinism: that of class_moments.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace gencond {

// Raises ValueError if a class has more samples than are stored of it.
void check_stored(int64_t label, int64_t count, std::optional<int64_t> stored);

}  // namespace gencond
