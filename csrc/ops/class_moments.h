// gencond::class_moments(Tensor features, Tensor labels, int num_classes)
//     -> (Tensor count, Tensor mean, Tensor m2)
//
// features  [N, D]  float32, float16, bfloat16 or float64, any strides
// labels    [N]     int64 in 0 ... C - 1 in any order, C = num_classes
// count     [C]     int64
// mean, m2  [C, D]  float32 (float64 for float64 features): the mean of each class and the sum
//                   of squared deviations from it
//
// Empty classes get zeros; N = 0 gives zeros everywhere. A NaN or an infinity affects only its own
// class and column. A label out of range raises an IndexError that names it.
//
// Accuracy: deviations are taken from the first sample of the class, so a mean far larger than the
// spread costs no digits. They are summed in groups, which Chan's update merges to chunks, and
// these to classes, so an outlier costs no digits either. Chunks are merged in float64.
//
// Determinism: the order of summation depends only on the labels and the instruction set, so any
// number of threads gives the same bits.
//
// gencond::class_moments_update_(Tensor(a!) count, Tensor(b!) mean, Tensor(c!) m2,
//                                Tensor features, Tensor labels) -> ()
//
// Merges the moments of a batch into tables of the above shapes, by Chan's update in float64. The
// tables are contiguous, and float32 or float64 for any features. Only the rows of classes in the
// batch are read or written, and none if the op raises an error. There is no gradient.
//
// gencond::class_moments_backward(Tensor grad_mean, Tensor grad_m2, Tensor features, Tensor labels,
//                                 Tensor count, Tensor mean) -> Tensor
//
// [N, D] in the dtype of features: grad_mean[c] / count[c] + 2 grad_m2[c] (x - mean[c]), c the
// class of x; grad_mean and grad_m2 are [C, D] in the dtype of mean.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gencond {

// Raise an error, which names `op`, unless the arguments let the ops touch memory safely.
void check_samples(const char* op, const at::Tensor& features, const at::Tensor& labels);
void check_tables(const char* op, const at::Tensor& count, const at::Tensor& mean,
                  const at::Tensor& m2, const at::Tensor& features);
// The same for tables that change in place.
void check_update_tables(const char* op, const at::Tensor& count, const at::Tensor& mean,
                         const at::Tensor& m2, const at::Tensor& features);

// Tells autograd that the tables change, since it may have saved one of them.
void mark_changed(const at::Tensor& count, const at::Tensor& mean, const at::Tensor& m2);

// Returns x, or a copy if the columns of a row do not lie side by side. Rows may lie anywhere.
at::Tensor with_dense_rows(const at::Tensor& x);

// Raises IndexError if the label is not in 0 ... num_classes - 1.
void check_label(const char* op, int64_t label, int64_t num_classes);

}  // namespace gencond
