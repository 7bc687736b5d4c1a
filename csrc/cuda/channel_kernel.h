// channel_moments on raw device pointers: needs the CUDA toolkit, nothing of torch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/type.h"

namespace gencond::cuda {

// x[n][c][s] lies at n * sample_stride + c * channel_stride + s on the device. Channels that lie
// side by side have size 1 and a sample for each position. There is at least one element.
struct ChannelInput {
  Type type;
  const void* x;
  int64_t samples, channels, size;
  int64_t sample_stride, channel_stride;
};

// Elements (of the sums' type) that channel_moments needs for partial results.
int64_t channel_workspace_elements(const ChannelInput& input);

// mean and m2, each [channels], in float, in double for F64. Deviations are taken from the first
// element of the channel, in groups, threads and blocks that are merged by Chan's update in a fixed
// order, blocks in double. No atomics: the same bits at every call.
void channel_moments(const ChannelInput& input, void* workspace, void* mean, void* m2,
                     cudaStream_t stream);

// grad[n][c][s] = grad_mean[c] / count + 2 grad_m2[c] (x[n][c][s] - mean[c]), in the type of x and
// in strides of its own.
struct ChannelGrad {
  void* grad;
  int64_t sample_stride, channel_stride;
};

void channel_moments_backward(const ChannelInput& input, const void* grad_mean, const void* grad_m2,
                              const void* mean, const ChannelGrad& grad, cudaStream_t stream);

}  // namespace gencond::cuda
