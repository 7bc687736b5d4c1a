// channel_moments on CUDA tensors: the kernels of channel_kernel.h run on the current stream.
// Nothing waits for the device. Contract: ops/channel_moments.h.
#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <tuple>

#include "cuda/channel_kernel.h"
#include "cuda/kernel_type.h"
#include "ops/channel_moments.h"

namespace gencond {
namespace {

cuda::ChannelInput describe(const at::Tensor& x, const ChannelLayout& layout) {
  return {kernel_type("channel_moments", x.scalar_type()),
          x.const_data_ptr(),
          layout.samples,
          layout.channels,
          layout.size,
          layout.sample_stride,
          layout.channel_stride};
}

std::tuple<at::Tensor, at::Tensor> channel_moments(const at::Tensor& x) {
  check_channels(x);
  const auto options = sum_options(x);
  if (x.numel() == 0) return {at::zeros({x.size(1)}, options), at::zeros({x.size(1)}, options)};
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor source = channel_layout(x) ? x : x.contiguous();
  const cuda::ChannelInput input = describe(source, *channel_layout(source));
  const at::Tensor workspace = at::empty({cuda::channel_workspace_elements(input)}, options);
  at::Tensor mean = at::empty({x.size(1)}, options), m2 = at::empty_like(mean);
  cuda::channel_moments(input, workspace.mutable_data_ptr(), mean.mutable_data_ptr(),
                        m2.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {mean, m2};
}

at::Tensor channel_moments_backward(const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                                    const at::Tensor& x, const at::Tensor& mean) {
  check_channels(x);
  const at::Tensor g_mean = channel_table(x, grad_mean, "channel_moments_backward: grad_mean");
  const at::Tensor g_m2 = channel_table(x, grad_m2, "channel_moments_backward: grad_m2");
  const at::Tensor means = channel_table(x, mean, "channel_moments_backward: mean");
  const c10::cuda::CUDAGuard guard(x.device());
  const GradientPlaces places(x);
  if (x.numel() == 0) return places.finish();
  const cuda::ChannelGrad grad{places.target.mutable_data_ptr(), places.to.sample_stride,
                               places.to.channel_stride};
  cuda::channel_moments_backward(describe(places.source, places.from), g_mean.const_data_ptr(),
                                 g_m2.const_data_ptr(), means.const_data_ptr(), grad,
                                 c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return places.finish();
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CUDA, m) {
  m.impl("channel_moments", &channel_moments);
  m.impl("channel_moments_backward", &channel_moments_backward);
}

}  // namespace gencond
