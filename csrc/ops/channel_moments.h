// gencond::channel_moments(Tensor x) -> (Tensor mean, Tensor m2)
//
// x         [N, C, ...]  two to five dimensions; float32, float16, bfloat16 or float64, any
//                        strides. Contiguous and channels-last memory is read where it lies,
//                        other memory is copied first.
// mean, m2  [C]          float32 (float64 for float64 x): the mean of each channel and the sum of
//                        squared deviations from it
//
// Without elements: zeros. A NaN or an infinity reaches its own channel only.
//
// Accuracy: as of class_moments (ops/class_moments.h). Determinism: the order of summation depends
// on the shape, the strides and the instruction set alone.
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

// Where the elements of a tensor lie: x[n][c][s] at n * sample_stride + c * channel_stride + s.
// Channels that lie side by side have size 1, and a sample for each position.
struct ChannelLayout {
  int64_t samples, channels, size;
  int64_t sample_stride, channel_stride;

  int64_t count() const { return samples * size; }  // elements of a channel
  bool side_by_side() const { return size == 1 && channel_stride == 1; }
  bool same_shape(const ChannelLayout& other) const {
    return samples == other.samples && channels == other.channels && size == other.size;
  }
};

// What the ops need in order to touch memory safely.
void check_channels(const at::Tensor& x);
void check_channel_table(const at::Tensor& x, const at::Tensor& table, const char* name);

// Nothing if the memory has no such order. A contiguous tensor with elements has one.
std::optional<ChannelLayout> channel_layout(const at::Tensor& x);

// Where the gradient reads and writes: x and torch.empty_like(x) themselves if their layouts
// match, else contiguous stand-ins.
struct GradientPlaces {
  at::Tensor grad, source, target;
  ChannelLayout from{}, to{};

  explicit GradientPlaces(const at::Tensor& x);
  at::Tensor finish() const;  // the gradient, once the target is written
};

// A [C] table as the kernels want it, in the dtype of x's sums.
at::Tensor channel_table(const at::Tensor& x, const at::Tensor& table, const char* name);

// The dtype and device of x's sums.
at::TensorOptions sum_options(const at::Tensor& x);

}  // namespace gencond
