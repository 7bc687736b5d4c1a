// gencond::channel_moments(Tensor x) -> (Tensor mean, Tensor m2)
//
// x         [N, C, ...]  two to five dimensions; float32, float16, bfloat16 or float64, any
//                        strides. Contiguous and channels-last tensors are read in place,
//                        others are copied first.
// mean, m2  [C]          float32 (float64 for float64 x): the mean of each channel and the sum of
//                        squared deviations from it
//
// Without elements the results are zeros. A NaN or an infinity affects only its own channel.
//
// Accuracy: that of class_moments (ops/class_moments.h). Determinism: the order of summation
// depends only on the shape, the strides and the instruction set.
//
// gencond::channel_moments_backward(Tensor grad_mean, Tensor grad_m2, Tensor x, Tensor mean)
//     -> Tensor
//
// In the shape, dtype and layout (torch.empty_like) of x:
// grad_mean[c] / count + 2 grad_m2[c] (x - mean[c]); grad_mean, grad_m2 and mean are [C] in the
// dtype of mean, count is the number of elements of a channel.
//
// gencond::batchnorm_distance(Tensor x, Tensor mean, Tensor variance)
//     -> (Tensor distance, Tensor batch_mean, Tensor grad_mean, Tensor grad_m2)
//
// mean, variance   [C]  any floating dtype
// distance         []   |batch mean - mean| + |batch variance - variance|, Euclidean norms over the
//                       channels, the variance biased; 0 without elements
// batch_mean       [C]  the moment that the gradient needs
// grad_mean, grad_m2 [C]  the derivatives of the distance by the moments; 0 where a norm is 0
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/TensorOptions.h>

#include <cstdint>
#include <optional>

namespace gencond {

// Where the elements of a tensor lie: x[n][c][s] at n * sample_stride + c * channel_stride + s. If
// channels lie side by side, size is 1 and every position counts as a sample.
struct ChannelLayout {
  int64_t samples, channels, size;
  int64_t sample_stride, channel_stride;

  int64_t count() const { return samples * size; }  // elements of a channel
  bool side_by_side() const { return size == 1 && channel_stride == 1; }
  bool same_shape(const ChannelLayout& other) const {
    return samples == other.samples && channels == other.channels && size == other.size;
  }
};

// Raise an error unless the arguments let the ops touch memory safely.
void check_channels(const at::Tensor& x);
void check_channel_table(const at::Tensor& x, const at::Tensor& table, const char* name);

// Returns nothing if the elements do not lie so. Those of a contiguous tensor, if any, do.
std::optional<ChannelLayout> channel_layout(const at::Tensor& x);

// Where the gradient reads and writes: x and torch.empty_like(x) if their layouts match, else
// contiguous copies.
struct GradientPlaces {
  at::Tensor grad, source, target;
  ChannelLayout from{}, to{};

  explicit GradientPlaces(const at::Tensor& x);
  at::Tensor finish() const;  // the gradient, once the target is written
};

// A [C] table as the kernels take it: contiguous, in the dtype of x's sums.
at::Tensor channel_table(const at::Tensor& x, const at::Tensor& table, const char* name);

// The dtype and device of x's sums.
at::TensorOptions sum_options(const at::Tensor& x);

}  // namespace gencond
