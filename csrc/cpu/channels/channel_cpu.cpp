// channel_moments and batchnorm_distance on the CPU. Contract: ops/channel_moments.h.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "cpu/channels/channel_backward.h"
#include "cpu/channels/channel_forward.h"
#include "cpu/dispatch.h"
#include "ops/channel_moments.h"

namespace gencond {
namespace {

ChannelSums sums_of(const at::Tensor& x) {
  check_channels(x);
  if (x.numel() == 0) return ChannelSums(x.size(1));
  std::optional<ChannelLayout> layout = channel_layout(x);
  const at::Tensor dense = layout ? x : x.contiguous();
  if (!layout) layout = channel_layout(dense);
  ChannelSums sums;
  dispatch_type(x.scalar_type(), [&](auto type) {
    sums = channel_sums(dense.const_data_ptr<decltype(type)>(), *layout);
  });
  return sums;
}

// A [C] tensor whose entry c is value(sums[c], c).
template <typename F>
at::Tensor table_of(const ChannelSums& sums, const at::TensorOptions& options, const F& value) {
  at::Tensor table = at::empty({static_cast<int64_t>(sums.size())}, options);
  AT_DISPATCH_FLOATING_TYPES(table.scalar_type(), "gencond", [&] {
    auto* to = table.mutable_data_ptr<scalar_t>();
    for (size_t c = 0; c < sums.size(); ++c) to[c] = static_cast<scalar_t>(value(sums[c], c));
  });
  return table;
}

at::Tensor means_of(const ChannelSums& sums, const at::TensorOptions& options) {
  return table_of(sums, options, [](const ChannelSum& sum, size_t) { return sum.mean; });
}

std::tuple<at::Tensor, at::Tensor> channel_moments(const at::Tensor& x) {
  const ChannelSums sums = sums_of(x);
  const auto options = sum_options(x);
  return {means_of(sums, options),
          table_of(sums, options, [](const ChannelSum& sum, size_t) { return sum.m2; })};
}

at::Tensor channel_moments_backward(const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                                    const at::Tensor& x, const at::Tensor& mean) {
  check_channels(x);
  const at::Tensor g_mean = channel_table(x, grad_mean, "channel_moments_backward: grad_mean");
  const at::Tensor g_m2 = channel_table(x, grad_m2, "channel_moments_backward: grad_m2");
  const at::Tensor means = channel_table(x, mean, "channel_moments_backward: mean");
  const GradientPlaces places(x);
  if (x.numel() == 0) return places.finish();
  dispatch_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = accumulate_t<T>;
    const MomentGradients<A> tables{g_mean.const_data_ptr<A>(), g_m2.const_data_ptr<A>(),
                                    means.const_data_ptr<A>(),
                                    static_cast<A>(places.from.count())};
    channel_gradient(places.source.const_data_ptr<T>(), places.from, tables,
                     places.target.mutable_data_ptr<T>(), places.to);
  });
  return places.finish();
}

// A Euclidean norm; a deviation times `slope` is the norm's derivative by it.
struct Norm {
  double value, slope;

  explicit Norm(const std::vector<double>& deviations) : value(0) {
    for (const double d : deviations) value += d * d;
    value = std::sqrt(value);
    slope = value == 0 ? 0 : 1 / value;
  }
};

std::vector<double> to_doubles(const at::Tensor& table) {
  const at::Tensor wide = table.to(at::kDouble).contiguous();
  const auto* from = wide.const_data_ptr<double>();
  return {from, from + wide.numel()};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> batchnorm_distance(
    const at::Tensor& x, const at::Tensor& mean, const at::Tensor& variance) {
  check_channels(x);
  check_channel_table(x, mean, "batchnorm_distance: mean");
  check_channel_table(x, variance, "batchnorm_distance: variance");
  const auto options = sum_options(x);
  if (x.numel() == 0) {
    const auto zeros = [&] { return at::zeros({x.size(1)}, options); };
    return {at::zeros({}, options), zeros(), zeros(), zeros()};
  }
  const ChannelSums sums = sums_of(x);
  std::vector<double> from_mean = to_doubles(mean), from_variance = to_doubles(variance);
  for (size_t c = 0; c < sums.size(); ++c) {
    from_mean[c] = sums[c].mean - from_mean[c];
    from_variance[c] = sums[c].m2 / sums[c].count - from_variance[c];
  }
  const Norm means(from_mean), variances(from_variance);
  // in float64 first: a distance that float32 cannot hold is infinite, not an error
  const auto distance = at::full({}, means.value + variances.value, options.dtype(at::kDouble));
  return {distance.to(options), means_of(sums, options),
          table_of(sums, options,
                   [&](const ChannelSum&, size_t c) { return from_mean[c] * means.slope; }),
          table_of(sums, options, [&](const ChannelSum& sum, size_t c) {
            return from_variance[c] * variances.slope / sum.count;
          })};
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CPU, m) {
  m.impl("channel_moments", &channel_moments);
  m.impl("channel_moments_backward", &channel_moments_backward);
  m.impl("batchnorm_distance", &batchnorm_distance);
}

}  // namespace gencond
