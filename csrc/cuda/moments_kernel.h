// class_moments on raw device pointers. Needs the CUDA toolkit, but not torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/type.h"

namespace gencond::cuda {

// All pointers are to the device. Sums are float, or double for F64.
struct MomentsInput {
  Type type;
  const void* features;    // [rows, columns], columns side by side
  int64_t row_stride;      // in elements
  int64_t rows, columns;
  const int64_t* order;    // [rows], row numbers class after class
  const int64_t* offsets;  // [classes + 1], where each class starts in order
  int64_t classes;
};

// Elements (of the sums' type) that class_moments needs for partial results.
int64_t workspace_elements(int64_t rows, int64_t columns);

// Writes mean and m2, each [classes, columns]; zeros for an empty class. Deviations are taken from
// the first sample of the class, in groups that Chan's update merges. Partial results of one class
// are merged in double, in order. Without atomics, every call gives the same bits.
void class_moments(const MomentsInput& input, void* workspace, void* mean, void* m2,
                   cudaStream_t stream);

// Merges the moments of every class that has rows into mean and m2, which hold those of count[c]
// earlier rows, and are double instead of float if `wide`. Leaves other classes, and count, as they
// are.
void class_moments_update(const MomentsInput& input, const int64_t* count, bool wide,
                          void* workspace, void* mean, void* m2, cudaStream_t stream);

// grad[i] = grad_mean[c] / count[c] + 2 grad_m2[c] (x[i] - mean[c]), c = labels[i]; grad is
// [rows, columns] in the type of the features.
void class_moments_backward(const MomentsInput& input, const int64_t* labels, const void* grad_mean,
                            const void* grad_m2, const void* mean, void* grad, cudaStream_t stream);

}  // namespace gencond::cuda
