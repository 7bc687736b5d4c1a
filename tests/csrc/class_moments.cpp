// class_moments and its gradient against their definition in extended precision.
#include <tuple>

#include "moments_reference.h"

namespace gencond::test {
namespace {

using Forward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&,
                                                                int64_t);
using Backward = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                            const at::Tensor&, const at::Tensor&, const at::Tensor&);

const auto forward = find_op<Forward>("gencond::class_moments");
const auto backward = find_op<Backward>("gencond::class_moments_backward");

Real rounding(const Problem& p) { return epsilon(p.features.scalar_type()); }

void check_gradients(const Problem& p, const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                     const at::Tensor& count, const at::Tensor& mean, const at::Tensor& found) {
  const Matrix gm = matrix_of(grad_mean), g2 = matrix_of(grad_m2), mu = matrix_of(mean);
  const Matrix grad = matrix_of(found);
  const std::vector<int64_t> counts = vector_of(count);
  for (int64_t i = 0; i < p.x.rows; ++i) {
    const int64_t c = p.label[i];
    for (int64_t j = 0; j < p.x.columns; ++j) {
      check_gradient(grad[i][j], gm[c][j], g2[c][j], static_cast<Real>(counts[c]), p.x[i][j],
                     mu[c][j], found.scalar_type(), mean.scalar_type(), i, j);
    }
  }
}

void agrees(Rng& rng) {
  for (const int64_t columns : WIDTHS) {
    for (const at::ScalarType type : TYPES) {
      for (const int64_t most : {1, 20, 600}) {
        const int64_t rows = rng.below(std::min<int64_t>(most, 300'000 / (columns + 1)) + 1);
        const int64_t classes = 1 + rng.below(rng.one_of<int64_t>({1, 5, rows + 2}));
        const Problem p(rng, rows, columns, classes, type);
        const auto wide = type == at::kDouble ? at::kDouble : at::kFloat;
        const auto place = rng.one_of<Place>({Place::DENSE, Place::TRANSPOSED});
        const at::Tensor grad_mean = tensor_of(random_matrix(rng, classes, columns), wide, place);
        const at::Tensor grad_m2 = tensor_of(random_matrix(rng, classes, columns), wide);
        run_everywhere(
            [&] {
              const auto [count, mean, m2] = forward.call(p.features, p.labels, classes);
              return Results{count, mean, m2,
                             backward.call(grad_mean, grad_m2, p.features, p.labels, count, mean)};
            },
            [&](const Results& found) {
              check_moments(p, found, rounding(p));
              check_gradients(p, grad_mean, grad_m2, found[0], found[1], found[3]);
            });
      }
    }
  }
}

// Several chunks of rows and blocks of columns, enough for several threads.
void merges_chunks(Rng& rng) {
  for (const at::ScalarType type : TYPES) {
    const Problem p(rng, 1300, 1100, 3, type);
    run_everywhere(
        [&] {
          const auto [count, mean, m2] = forward.call(p.features, p.labels, p.classes);
          return Results{count, mean, m2};
        },
        [&](const Results& found) { check_moments(p, found, rounding(p)); });
  }
}

void no_classes(Rng&) {
  const auto [count, mean, m2] = forward.call(at::empty({0, 5}, at::kFloat), tensor_of({}), 0);
  expect(count.numel() == 0 && mean.sizes() == at::IntArrayRef({0, 5}) && m2.numel() == 0,
         "results of other shapes");
}

void refuses_bad_input(Rng& rng) {
  const Problem p(rng, 500, 300, 4, at::kFloat);
  const auto [count, mean, m2] = forward.call(p.features, p.labels, 4);
  for (const int64_t wrong : {int64_t{-1}, int64_t{4}, std::numeric_limits<int64_t>::min(),
                              std::numeric_limits<int64_t>::max()}) {
    std::vector<int64_t> labels = p.label;
    labels[rng.below(500)] = wrong;
    const at::Tensor bad = tensor_of(labels);
    for (const int threads : {1, 2}) {
      at::set_num_threads(threads);
      expect_error<c10::IndexError>("a label", [&] { forward.call(p.features, bad, 4); });
      expect_error<c10::IndexError>(
          "a label", [&] { backward.call(mean, m2, p.features, bad, count, mean); });
    }
  }
  const at::Tensor few = p.labels.slice(0, 0, 499), narrow = mean.slice(1, 0, 299);
  expect_error<c10::ValueError>("few labels", [&] { forward.call(p.features, few, 4); });
  expect_error<c10::ValueError>("classes", [&] { forward.call(p.features, p.labels, -1); });
  expect_error<c10::TypeError>("a type",
                               [&] { forward.call(p.features, at::empty({500}, at::kInt), 4); });
  expect_error<c10::ValueError>(
      "a narrow gradient", [&] { backward.call(narrow, m2, p.features, p.labels, count, mean); });
}

}  // namespace
}  // namespace gencond::test

int main(int argc, char** argv) {
  using namespace gencond::test;
  return run_tests(argc, argv,
                   {{"agrees", agrees},
                    {"merges chunks", merges_chunks},
                    {"no classes", no_classes},
                    {"refuses bad input", refuses_bad_input}});
}
