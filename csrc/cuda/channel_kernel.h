// channel_moments on raw device pointers. Needs the CUDA toolkit, but not torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/type.h"

namespace gencond::cuda {

// x[n][c][s] lies at n * sample_stride + c * channel_stride + s on the device. If channels lie side
// by side, size is 1 and every position counts as a sample. There is at least one element.
struct ChannelInput {
  Type type;
  const void* x;
  int64_t samples, channels, size;
  int64_t sample_stride, channel_stride;
};

// Elements (of the sums' type) that channel_moments needs for partial results.
int64_t channel_workspace_elements(const ChannelInput& input);

// Writes mean and m2, each [channels], in float, or double for F64. Deviations are taken from the
// first element of the channel. Chan's update merges groups, threads and blocks in a fixed order,
// blocks in double. Without atomics, every call gives the same bits.
void channel_moments(const ChannelInput& input, void* workspace, void* mean, void* m2,
                     cudaStream_t stream);

// grad[n][c][s] = grad_mean[c] / count + 2 grad_m2[c] (x[n][c][s] - mean[c]), in the type of x and
// with strides of its own.
struct ChannelGrad {
  void* grad;
  int64_t sample_stride, channel_stride;
};

void channel_moments_backward(const ChannelInput& input, const void* grad_mean, const void* grad_m2,
                              const void* mean, const ChannelGrad& grad, cudaStream_t stream);

}  // namespace gencond::cuda
