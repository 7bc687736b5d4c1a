// class_moments and its gradient against their definition in extended precision.
#include <algorithm>
#include <limits>
#include <tuple>

#include "op_testing.h"

namespace gencond::test {
namespace {

using Forward = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor&, const at::Tensor&,
                                                                int64_t);
using Backward = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                            const at::Tensor&, const at::Tensor&, const at::Tensor&);

const auto forward = find_op<Forward>("gencond::class_moments");
const auto backward = find_op<Backward>("gencond::class_moments_backward");

struct Problem {
  at::Tensor features, labels;
  Matrix x;
  std::vector<int64_t> label;
  int64_t classes;

  Problem(Rng& rng, int64_t rows, int64_t columns, int64_t classes, at::ScalarType type)
      : features(tensor_of(random_matrix(rng, rows, columns, rng.one_of(ALL_VALUES), type), type,
                           rng.one_of(PLACES))),
        x(matrix_of(features)),
        label(random_labels(rng, rows, classes)),
        classes(classes) {
    labels = tensor_of(label, rng.one_of<int64_t>({1, 2}));
  }

  std::vector<int64_t> rows_of(int64_t c) const {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < x.rows; ++i) {
      if (label[i] == c) rows.push_back(i);
    }
    return rows;
  }
};

// One class and column: the mean and the sum of squared deviations from it.
void check_column(const Problem& p, const std::vector<int64_t>& rows, int64_t j, Real mean, Real m2,
                  Real epsilon, Real least) {
  const auto n = static_cast<Real>(rows.size());
  const Real first = p.x[rows[0]][j];  // equal rows have no deviations
  Real offset = 0, want_m2 = 0, spread = 0;
  for (const int64_t i : rows) offset += (p.x[i][j] - first) / n;
  for (const int64_t i : rows) {
    const Real difference = p.x[i][j] - first;
    want_m2 += (difference - offset) * (difference - offset);
    spread = std::max(spread, std::fabs(difference));
  }
  const Real want_mean = first + offset;
  if (!std::isfinite(want_mean)) {
    expect(!std::isfinite(mean) && !std::isfinite(m2), "moments of column ", j, " are ", mean,
           " and ", m2, " in spite of a value that is not finite");
    return;
  }
  expect_close(mean, want_mean, epsilon * (2 * std::fabs(want_mean) + 32 * spread) + least, "mean",
               rows[0], j);
  expect_close(m2, want_m2, 64 * epsilon * want_m2 + n * least, "m2", rows[0], j);
}

void check_moments(const Problem& p, const Results& found) {
  const std::vector<int64_t> count = vector_of(found[0]);
  const Matrix mean = matrix_of(found[1]), m2 = matrix_of(found[2]);
  const bool wide = found[1].scalar_type() == at::kDouble;
  expect(wide == (p.features.scalar_type() == at::kDouble), "the moments are of another type");
  const Real least = wide ? std::numeric_limits<double>::min() : std::numeric_limits<float>::min();
  for (int64_t c = 0; c < p.classes; ++c) {
    const std::vector<int64_t> rows = p.rows_of(c);
    expect(count[c] == static_cast<int64_t>(rows.size()), "count[", c, "] is ", count[c]);
    for (int64_t j = 0; j < p.x.columns; ++j) {
      if (rows.empty()) expect(mean[c][j] == 0 && m2[c][j] == 0, "class ", c, " is not empty");
      else check_column(p, rows, j, mean[c][j], m2[c][j], epsilon(found[1].scalar_type()), least);
    }
  }
}

void check_gradient(const Problem& p, const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                    const at::Tensor& count, const at::Tensor& mean, const at::Tensor& found) {
  const Matrix gm = matrix_of(grad_mean), g2 = matrix_of(grad_m2), mu = matrix_of(mean);
  const Matrix grad = matrix_of(found);
  const std::vector<int64_t> counts = vector_of(count);
  Real rounding = 0, least = 0;
  with_type(found.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    rounding = static_cast<double>(std::numeric_limits<T>::epsilon());
    least = static_cast<double>(std::numeric_limits<T>::min());
  });
  for (int64_t i = 0; i < p.x.rows; ++i) {
    const int64_t c = p.label[i];
    for (int64_t j = 0; j < p.x.columns; ++j) {
      const Real share = gm[c][j] / static_cast<Real>(counts[c]);
      const Real want = share + 2 * g2[c][j] * (p.x[i][j] - mu[c][j]);
      const Real size =
          std::fabs(share) + 2 * std::fabs(g2[c][j]) * (std::fabs(p.x[i][j]) + std::fabs(mu[c][j]));
      const Real allowed =
          rounding * std::fabs(want) + 4 * epsilon(mean.scalar_type()) * size + least;
      expect_close(grad[i][j], want, allowed, "gradient", i, j);
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
              check_moments(p, found);
              check_gradient(p, grad_mean, grad_m2, found[0], found[1], found[3]);
            });
      }
    }
  }
}

// Of more than one chunk of rows and block of columns, and enough for several threads.
void merges_chunks(Rng& rng) {
  for (const at::ScalarType type : TYPES) {
    const Problem p(rng, 1300, 1100, 3, type);
    run_everywhere(
        [&] {
          const auto [count, mean, m2] = forward.call(p.features, p.labels, p.classes);
          return Results{count, mean, m2};
        },
        [&](const Results& found) { check_moments(p, found); });
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
