#include "ops/channel_moments.h"

#include <ATen/Functions.h>
#include <torch/library.h>

namespace gencond {
namespace {

// The positions of one plane: their number, and the step between neighbours if it is always the
// same.
struct Positions {
  int64_t size = 1, step = 0;
  bool even = true;

  explicit Positions(const at::Tensor& x) {
    for (int64_t d = x.dim() - 1; d >= 2; --d) {
      if (x.size(d) == 1) continue;
      if (size == 1) step = x.stride(d);
      even = even && x.stride(d) == step * size;
      size *= x.size(d);
    }
  }
};

}  // namespace

void check_channels(const at::Tensor& x) {
  TORCH_CHECK_VALUE(2 <= x.dim() && x.dim() <= 5,
                    "channel_moments: x must have two to five dimensions [N, C, ...], got ",
                    x.sizes());
}

void check_channel_table(const at::Tensor& x, const at::Tensor& table, const char* name) {
  TORCH_CHECK_VALUE(table.dim() == 1 && table.size(0) == x.size(1), name, " must have shape [",
                    x.size(1), "], one entry for each channel of x, got ", table.sizes());
  TORCH_CHECK_TYPE(at::isFloatingType(table.scalar_type()), name,
                   " must be floating point, got ", table.scalar_type());
  TORCH_CHECK_VALUE(table.device() == x.device(), name, " is on ", table.device(), " but x on ",
                    x.device());
}

std::optional<ChannelLayout> channel_layout(const at::Tensor& x) {
  const int64_t samples = x.size(0), channels = x.size(1);
  const int64_t across = x.stride(0), aside = x.stride(1);
  const Positions plane(x);
  if (!plane.even) return {};
  if (channels == 1) {
    const bool one_run = samples == 1 || across == plane.size;
    if (plane.size > 1 && plane.step != 1) return {};
    if (one_run) return ChannelLayout{1, 1, samples * plane.size, 0, 0};
    if (plane.size == 1) return {};
    return ChannelLayout{samples, 1, plane.size, across, 0};
  }
  if (plane.size == 1) {
    if (aside != 1) return {};
    return ChannelLayout{samples, channels, 1, across, 1};
  }
  if (plane.step == 1) return ChannelLayout{samples, channels, plane.size, across, aside};
  if (aside != 1 || (samples > 1 && across != plane.step * plane.size)) return {};
  return ChannelLayout{samples * plane.size, channels, 1, plane.step, 1};
}

GradientPlaces::GradientPlaces(const at::Tensor& x) : grad(at::empty_like(x)) {
  if (x.numel() == 0) return;
  auto here = channel_layout(x), there = channel_layout(grad);
  const bool direct = here && there && here->same_shape(*there);
  source = direct ? x : x.contiguous();
  target = direct ? grad : at::empty(x.sizes(), x.options());
  if (!direct) here = there = channel_layout(source);
  from = *here;
  to = *there;
}

at::Tensor GradientPlaces::finish() const {
  if (target.defined() && !target.is_same(grad)) grad.copy_(target);
  return grad;
}

at::TensorOptions sum_options(const at::Tensor& x) {
  return x.options().dtype(x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

at::Tensor channel_table(const at::Tensor& x, const at::Tensor& table, const char* name) {
  check_channel_table(x, table, name);
  return table.to(sum_options(x).dtype().toScalarType()).contiguous();
}

TORCH_LIBRARY_FRAGMENT(gencond, m) {
  m.def("channel_moments(Tensor x) -> (Tensor mean, Tensor m2)");
  m.def(
      "channel_moments_backward(Tensor grad_mean, Tensor grad_m2, Tensor x, Tensor mean) "
      "-> Tensor");
  m.def(
      "batchnorm_distance(Tensor x, Tensor mean, Tensor variance) "
      "-> (Tensor distance, Tensor batch_mean, Tensor grad_mean, Tensor grad_m2)");
}

}  // namespace gencond
