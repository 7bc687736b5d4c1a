// The ops behind the intra- and inter-class losses.
//
// A layout of classes is order [N] int64, row numbers class after class, and offsets [K + 1] int64,
// where each class starts in it: non-decreasing from 0 to at most N. Classes may be empty; rows in
// order[offsets[K]] ... belong to no class. `tables` is for the GPU kernels, and ignored here.
//
// gencond::class_order(Tensor labels) -> (Tensor order, Tensor offsets)
//
// labels [N] int64, any values. Classes come by ascending label, rows in input order within one;
// offsets has N + 1 entries, those beyond the classes present equal N.
//
// gencond::class_centres(Tensor features, Tensor order, Tensor offsets, Tensor[] tables) -> Tensor
//
// [K, D] float32 (float64 for float64 features): the mean of each class, zeros for an empty one.
// features [N, D] float32, float16, bfloat16 or float64, any strides.
//
// gencond::class_centres_backward(Tensor grad, Tensor order, Tensor offsets, ScalarType dtype)
//     -> Tensor
//
// [N, D] in dtype: grad[c] / n_c for each row of class c, 0 for rows of none.
//
// gencond::pair_loss(Tensor features, Tensor order, Tensor offsets, Tensor? centres,
//                    Tensor[] tables, str kind, float parameter, str precision, bool need_grad)
//     -> (Tensor loss, Tensor grad)
//
// loss [] float32, the intra-class loss over the classes; grad [N, D] float32, its derivative by
// the features, or empty unless need_grad. features [N, D] float32, float16 or bfloat16. kind is
// infonce, rbf, hinge or nearest, parameter its temperature, sigma or margin. centres would save
// nothing here and are ignored, as is precision: all is float32. A class with a value that is not
// finite gives NaN, loss and gradient; of a class of one row, only a NaN counts. Besides grad it
// takes less than 64 MB.
//
// Determinism of all: the same bits come out whatever the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

namespace gencond {

// What the ops need in order to touch memory safely.
void check_rows(const char* op, const at::Tensor& features, const at::Tensor& order);
void check_layout(const char* op, const at::Tensor& order, const at::Tensor& offsets);

}  // namespace gencond
