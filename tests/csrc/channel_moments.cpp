// Moments of channels and their distance from a batch norm's, in every layout.
#include <tuple>

#include "moments_reference.h"

namespace gencond::test {
namespace {

using Forward = std::tuple<at::Tensor, at::Tensor>(const at::Tensor&);
using Backward = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                            const at::Tensor&);
using Distance = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>(const at::Tensor&,
                                                                            const at::Tensor&,
                                                                            const at::Tensor&);

const auto forward = find_op<Forward>("gencond::channel_moments");
const auto backward = find_op<Backward>("gencond::channel_moments_backward");
const auto distance = find_op<Distance>("gencond::batchnorm_distance");

enum class Order { CONTIGUOUS, CHANNELS_LAST, NEITHER };

struct Activations {
  int64_t samples, channels, size;
  at::Tensor tensor;  // [samples, channels, size]

  Activations(Rng& rng, int64_t samples, int64_t channels, int64_t size, at::ScalarType type,
              Order order, Values values)
      : samples(samples), channels(channels), size(size) {
    const auto make = [&](int64_t rows, int64_t columns) {
      return tensor_of(random_matrix(rng, rows, columns, values, type), type);
    };
    if (order == Order::CONTIGUOUS) {
      tensor = make(samples, channels * size).view({samples, channels, size});
    } else if (order == Order::CHANNELS_LAST) {
      tensor = make(samples * size, channels).view({samples, size, channels}).transpose(1, 2);
    } else {
      tensor = make(channels * size, samples).view({channels, size, samples}).permute({2, 0, 1});
    }
  }

  // Columns are the values of a channel, sample after sample.
  Matrix matrix() const {
    return matrix_of(tensor.transpose(1, 2).reshape({samples * size, channels}));
  }
};

std::vector<Real> column(const Matrix& x, int64_t j) {
  std::vector<Real> values(x.rows);
  for (int64_t i = 0; i < x.rows; ++i) values[i] = x[i][j];
  return values;
}

void check_forward(const Activations& a, const at::Tensor& mean, const at::Tensor& m2) {
  const Matrix x = a.matrix();
  const Matrix means = matrix_of(mean.view({1, -1})), m2s = matrix_of(m2.view({1, -1}));
  for (int64_t c = 0; c < a.channels; ++c) {
    if (x.rows == 0) expect(means[0][c] == 0 && m2s[0][c] == 0, "moments of no elements");
    else check_values(column(x, c), means[0][c], m2s[0][c], epsilon(mean.scalar_type()), 0,
                      least_of(mean.scalar_type()), c, 0);
  }
}

void check_backward(const Activations& a, const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                    const at::Tensor& mean, const at::Tensor& found) {
  const Matrix x = a.matrix(), gm = matrix_of(grad_mean.view({1, -1}));
  const Matrix g2 = matrix_of(grad_m2.view({1, -1})), mu = matrix_of(mean.view({1, -1}));
  const Matrix grad = matrix_of(found.transpose(1, 2).reshape({x.rows, x.columns}));
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t c = 0; c < x.columns; ++c) {
      check_gradient(grad[i][c], gm[0][c], g2[0][c], static_cast<Real>(x.rows), x[i][c], mu[0][c],
                     found.scalar_type(), mean.scalar_type(), i, c);
    }
  }
}

at::ScalarType sums_of(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

void moments_agree(Rng& rng) {
  for (const int64_t size : {1, 3, 16, 49, 63, 64, 65, 1000, 20'000}) {
    for (const at::ScalarType type : TYPES) {
      for (const Order order : {Order::CONTIGUOUS, Order::CHANNELS_LAST, Order::NEITHER}) {
        const int64_t channels = rng.one_of<int64_t>({1, 2, 3, 16, 33, 257});
        const int64_t most = std::max<int64_t>(1, 60'000 / (size * channels));
        const int64_t samples = rng.one_in(10) ? 0 : 1 + rng.below(std::min<int64_t>(most, 200));
        const Activations a(rng, samples, channels, size, type, order, rng.one_of(ALL_VALUES));
        const at::Tensor tables = tensor_of(random_matrix(rng, 2, channels), sums_of(type));
        const at::Tensor grad_mean = tables.select(0, 0), grad_m2 = tables.select(0, 1);
        run_everywhere(
            [&] {
              const auto [mean, m2] = forward.call(a.tensor);
              const at::Tensor grad = backward.call(grad_mean, grad_m2, a.tensor, mean);
              return Results{mean, m2, grad.contiguous()};
            },
            [&](const Results& found) {
              check_forward(a, found[0], found[1]);
              check_backward(a, grad_mean, grad_m2, found[0], found[2]);
            });
      }
    }
  }
}

void distances_agree(Rng& rng) {
  for (const at::ScalarType type : TYPES) {
    for (const Order order : {Order::CONTIGUOUS, Order::CHANNELS_LAST}) {
      const int64_t channels = 1 + rng.below(40);
      const Activations a(rng, 1 + rng.below(30), channels, 1 + rng.below(90), type, order,
                          Values::NORMAL);
      const at::Tensor target = tensor_of(random_matrix(rng, 2, channels), at::kDouble);
      const Matrix x = a.matrix(), wanted = matrix_of(target);
      Real of_means = 0, of_variances = 0;
      for (int64_t c = 0; c < channels; ++c) {
        const Moments m(column(x, c));
        of_means += std::pow(m.mean - wanted[0][c], 2);
        of_variances += std::pow(m.m2 / static_cast<Real>(x.rows) - wanted[1][c], 2);
      }
      const Real want = std::sqrt(of_means) + std::sqrt(of_variances);
      run_everywhere(
          [&] {
            const auto [found, mean, grad_mean, grad_m2] =
                distance.call(a.tensor, target.select(0, 0), target.select(0, 1));
            return Results{found.reshape({1, 1}), mean, grad_mean, grad_m2};
          },
          [&](const Results& found) {
            expect_close(matrix_of(found[0])[0][0], want, 64 * epsilon(type) * (want + 1),
                         "distance");
          });
    }
  }
}

void refuses_bad_input(Rng& rng) {
  const Activations a(rng, 3, 4, 5, at::kFloat, Order::CONTIGUOUS, Values::NORMAL);
  const at::Tensor few = tensor_of(random_matrix(rng, 1, 3), at::kFloat).view({3});
  expect_error<c10::ValueError>("one dimension", [&] { forward.call(few); });
  expect_error<c10::ValueError>("few channels", [&] { distance.call(a.tensor, few, few); });
  expect_error<c10::ValueError>("few channels", [&] { backward.call(few, few, a.tensor, few); });
}

}  // namespace
}  // namespace gencond::test

int main(int argc, char** argv) {
  using namespace gencond::test;
  return run_tests(argc, argv,
                   {{"moments agree", moments_agree},
                    {"distances agree", distances_agree},
                    {"refuses bad input", refuses_bad_input}});
}
