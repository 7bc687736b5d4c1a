// The ops behind the intra- and inter-class losses.
//
// A layout of classes is two tensors. order [N] int64 lists the row numbers class after class;
// offsets [K + 1] int64 says where each class starts in it, and does not decrease from 0 to at most
// N. Classes may be empty. The rows order[offsets[K]] ... belong to no class. `tables` is for the
// GPU kernels; the CPU ignores it.
//
// gencond::class_order(Tensor labels) -> (Tensor order, Tensor offsets)
//
// labels [N] int64, any values. Classes are sorted by label, and rows of a class keep their order.
// offsets has N + 1 entries; those beyond the classes that exist equal N.
//
// gencond::class_centres(Tensor features, Tensor order, Tensor offsets, Tensor[] tables) -> Tensor
//
// [K, D] float32 (float64 for float64 features): the mean of each class, zeros for an empty one.
// features [N, D] float32, float16, bfloat16 or float64, any strides.
//
// gencond::class_centres_backward(Tensor grad, Tensor order, Tensor offsets, ScalarType dtype)
//     -> Tensor
//
// [N, D] in dtype: grad[c] / n_c for each row of class c, 0 for rows of no class.
//
// gencond::pair_loss(Tensor features, Tensor order, Tensor offsets, Tensor? centres,
//                    Tensor[] tables, str kind, float parameter, str precision, bool need_grad)
//     -> (Tensor loss, Tensor grad)
//
// loss [] float32 is the intra-class loss over the classes; grad [N, D] float32 is its derivative
// by the features, empty unless need_grad. features [N, D] are float32, float16 or bfloat16. kind
// is infonce, rbf, hinge or nearest; parameter is its temperature, sigma or margin. The CPU ignores
// centres, which would save nothing, and precision, since it computes in float32. In a class of two
// rows or more, a value that is not finite, or a squared norm that float32 cannot hold, makes the
// loss, and the gradient of the class, NaN. In a class of one row, a value that is not finite makes
// the loss NaN. Besides grad the op takes less than 64 MB.
//
// Determinism of all: any number of threads gives the same bits.
#pragma once

#include <ATen/core/Tensor.h>

namespace gencond {

// Raise an error, which names `op`, unless the arguments let the ops touch memory safely.
void check_rows(const char* op, const at::Tensor& features, const at::Tensor& order);
void check_layout(const char* op, const at::Tensor& order, const at::Tensor& offsets);

}  // namespace gencond
