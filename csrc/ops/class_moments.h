// gencond::class_moments(Tensor features, Tensor labels, int num_classes)
//     -> (Tensor count, Tensor mean, Tensor m2)
//
// features  [N, D]  float32, float16, bfloat16 or float64, any strides
// labels    [N]     int64 in 0 ... C - 1 in any order, C = num_classes
// count     [C]     int64
// mean, m2  [C, D]  float32 (float64 for float64 features): the mean of each class and the sum
//                   of squared deviations from it
//
// Empty classes have zeros; so has everything when N = 0. A NaN or an infinity reaches its own
// class and column only. A label out of range is an IndexError that names it.
//
// Accuracy: deviations from the first sample of the class are summed, in groups, chunks and
// classes, each merged with the next by Chan's update, so a mean far larger than the spread costs
// no digits, nor does an outlier. Chunks are merged in float64.
//
// Determinism: the order of summation depends on the labels and the instruction set alone; the
// same bits come out whatever the number of threads.
//
// gencond::class_moments_update_(Tensor(a!) count, Tensor(b!) mean, Tensor(c!) m2,
//                                Tensor features, Tensor labels) -> ()
//
// Merges the moments of a batch into tables of the above shapes, by Chan's update in float64. The
// tables are contiguous, float32 or float64 whatever the features are. Only the rows of classes in
// the batch are read or written; none is when an argument is refused. No gradient.
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

// What the ops need in order to touch memory safely; `op` is named in the errors.
void check_samples(const char* op, const at::Tensor& features, const at::Tensor& labels);
void check_tables(const char* op, const at::Tensor& count, const at::Tensor& mean,
                  const at::Tensor& m2, const at::Tensor& features);
// Of tables that are to change in place, besides.
void check_update_tables(const char* op, const at::Tensor& count, const at::Tensor& mean,
                         const at::Tensor& m2, const at::Tensor& features);

// Tells autograd, which may have saved one of them.
void mark_changed(const at::Tensor& count, const at::Tensor& mean, const at::Tensor& m2);

// Kernels step over rows as they like but want the columns of a row side by side.
at::Tensor with_dense_rows(const at::Tensor& x);

// Raises IndexError if the label is not in 0 ... num_classes - 1.
void check_label(const char* op, int64_t label, int64_t num_classes);

}  // namespace gencond
