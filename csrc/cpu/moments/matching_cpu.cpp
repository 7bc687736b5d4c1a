// moment_matching on the CPU: one pass over the features, then one over the tables, which replaces
// m2 by the derivative by m2. Contract: ops/moment_matching.h.
#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <tuple>
#include <vector>

#include "cpu/moments/class_tiles.h"
#include "cpu/moments/matching_kernel.h"
#include "cpu/moments/moments_cpu.h"
#include "ops/class_moments.h"
#include "ops/moment_matching.h"

namespace gencond {
namespace {

constexpr const char* OP = "moment_matching_loss";

template <typename A>
MatchWeights<A> weights_of(int64_t count, int64_t target_count, double mean_weight,
                           double std_weight, std::optional<int64_t> stored) {
  MatchWeights<A> weights{};
  weights.mean = static_cast<A>(mean_weight);
  if (stored && count > 1) {
    const double left_out = 1 - static_cast<double>(count) / static_cast<double>(*stored);
    const double pairs = static_cast<double>(count) * static_cast<double>(count - 1);
    weights.draw = static_cast<A>(mean_weight * left_out / pairs);
  }
  if (count > 1 && target_count > 1) {
    weights.std = static_cast<A>(std_weight);
    weights.inverse_freedom = static_cast<A>(1.0 / (count - 1));
    weights.target_inverse_freedom = static_cast<A>(1.0 / (target_count - 1));
  }
  return weights;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> moment_matching(
    const at::Tensor& features, const at::Tensor& labels, const at::Tensor& target_count,
    const at::Tensor& target_mean, const at::Tensor& target_m2, double mean_weight,
    double std_weight, std::optional<int64_t> stored) {
  check_samples(OP, features, labels);
  check_tables(OP, target_count, target_mean, target_m2, features);
  const int64_t num_classes = target_count.size(0), columns = features.size(1);
  auto [count, mean, grad_m2] = class_moments_cpu(OP, features, labels, num_classes);
  const at::Tensor counts = target_count.contiguous();
  const at::Tensor to_mean = target_mean.to(mean.scalar_type()).contiguous();
  const at::Tensor to_m2 = target_m2.to(mean.scalar_type()).contiguous();
  at::Tensor grad_mean = at::empty_like(mean);
  const auto *seen = count.const_data_ptr<int64_t>(), *wanted = counts.const_data_ptr<int64_t>();
  for (int64_t c = 0; c < num_classes; ++c) check_stored(c, seen[c], stored);

  std::vector<double> losses(num_classes);
  AT_DISPATCH_FLOATING_TYPES(mean.scalar_type(), OP, [&] {
    const auto match = GENCOND_ACTIVE_TABLE(gencond_matching_table).get<scalar_t>();
    const auto *mu = mean.const_data_ptr<scalar_t>(), *target = to_mean.const_data_ptr<scalar_t>();
    const auto* target_squares = to_m2.const_data_ptr<scalar_t>();
    auto* to_grad_mean = grad_mean.mutable_data_ptr<scalar_t>();
    auto* squares = grad_m2.mutable_data_ptr<scalar_t>();
    const int64_t grain = std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, columns));
    at::parallel_for(0, num_classes, grain, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c) {
        const int64_t at = c * columns;
        if (seen[c] == 0 || wanted[c] == 0) {
          std::fill_n(to_grad_mean + at, columns, scalar_t(0));
          std::fill_n(squares + at, columns, scalar_t(0));
          continue;
        }
        losses[c] = match(
            weights_of<scalar_t>(seen[c], wanted[c], mean_weight, std_weight, stored), columns,
            mu + at, target + at, target_squares + at, squares + at, to_grad_mean + at);
      }
    });
  });
  const double total = std::accumulate(losses.begin(), losses.end(), 0.0);
  // in float64 first: a loss that float32 cannot hold is infinite, not an error
  const auto loss = at::full({}, total, mean.options().dtype(at::kDouble)).to(mean.options());
  return {loss, count, mean, grad_mean, grad_m2};
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CPU, m) { m.impl("moment_matching", &moment_matching); }

}  // namespace gencond
