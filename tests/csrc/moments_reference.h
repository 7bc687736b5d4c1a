// Labelled rows, and the moments of one class or channel by definition, in extended precision.
#pragma once

#include <algorithm>
#include <limits>

#include "op_testing.h"

namespace gencond::test {

struct Problem {
  at::Tensor features, labels;
  Matrix x;
  std::vector<int64_t> label;
  int64_t classes;

  Problem(Rng& rng, int64_t rows, int64_t columns, int64_t classes, at::ScalarType type,
          Values values)
      : features(tensor_of(random_matrix(rng, rows, columns, values, type), type,
                           rng.one_of(PLACES))),
        x(matrix_of(features)),
        label(random_labels(rng, rows, classes)),
        classes(classes) {
    labels = tensor_of(label, rng.one_of<int64_t>({1, 2}));
  }

  Problem(Rng& rng, int64_t rows, int64_t columns, int64_t classes, at::ScalarType type)
      : Problem(rng, rows, columns, classes, type, rng.one_of(ALL_VALUES)) {}

  // Column j of the rows of class c.
  std::vector<Real> values_of(int64_t c, int64_t j) const {
    std::vector<Real> values;
    for (int64_t i = 0; i < x.rows; ++i) {
      if (label[i] == c) values.push_back(x[i][j]);
    }
    return values;
  }
};

struct Moments {
  Real mean = 0, m2 = 0, spread = 0;  // spread: the largest distance from the first value

  explicit Moments(const std::vector<Real>& values) {
    const auto n = static_cast<Real>(values.size());
    if (values.empty()) return;
    Real offset = 0;  // equal values have no deviations
    for (const Real value : values) offset += (value - values[0]) / n;
    for (const Real value : values) {
      const Real difference = value - values[0];
      m2 += (difference - offset) * (difference - offset);
      spread = std::max(spread, std::fabs(difference));
    }
    mean = values[0] + offset;
  }
};

inline Real least_of(at::ScalarType type) {
  return type == at::kDouble ? std::numeric_limits<double>::min()
                             : std::numeric_limits<float>::min();
}

// The mean and the sum of squared deviations, from sums with roundings of `epsilon`, of which
// deviations were taken from a mean with a rounding of `drift`.
inline void check_values(const std::vector<Real>& values, Real mean, Real m2, Real epsilon,
                         Real drift, Real least, int64_t c, int64_t j) {
  const Moments want(values);
  if (!std::isfinite(want.mean)) {
    expect(!std::isfinite(mean) && !std::isfinite(m2), "moments [", c, ", ", j, "] are ", mean,
           " and ", m2, " in spite of a value that is not finite");
    return;
  }
  const auto n = static_cast<Real>(values.size());
  expect_close(mean, want.mean, epsilon * (2 * std::fabs(want.mean) + 32 * want.spread) + least,
               "mean", c, j);
  const Real off = drift * std::fabs(want.mean);
  const Real drifted = 2 * std::sqrt(n * want.m2) * off + n * off * off;
  expect_close(m2, want.m2, 64 * epsilon * want.m2 + drifted + n * least, "m2", c, j);
}

// Checks the results: count, mean and m2 of every class.
inline void check_moments(const Problem& p, const Results& found, Real epsilon, Real drift = 0) {
  const std::vector<int64_t> count = vector_of(found[0]);
  const Matrix mean = matrix_of(found[1]), m2 = matrix_of(found[2]);
  const Real least = least_of(p.features.scalar_type());
  for (int64_t c = 0; c < p.classes; ++c) {
    const int64_t rows = std::count(p.label.begin(), p.label.end(), c);
    expect(count[c] == rows, "count[", c, "] is ", count[c]);
    for (int64_t j = 0; j < p.x.columns; ++j) {
      if (rows == 0) expect(mean[c][j] == 0 && m2[c][j] == 0, "class ", c, " is not empty");
      else check_values(p.values_of(c, j), mean[c][j], m2[c][j], epsilon, drift, least, c, j);
    }
  }
}

// One entry of a gradient, grad_mean / count + 2 grad_m2 (x - mean), as the type of `grad` has it.
inline void check_gradient(Real found, Real grad_mean, Real grad_m2, Real count, Real x, Real mean,
                           at::ScalarType type, at::ScalarType sums, int64_t i, int64_t j) {
  Real rounding = 0, least = 0;
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    rounding = static_cast<double>(std::numeric_limits<T>::epsilon());
    least = static_cast<double>(std::numeric_limits<T>::min());
  });
  const Real share = grad_mean / count, want = share + 2 * grad_m2 * (x - mean);
  const Real size =
      std::fabs(share) + 2 * std::fabs(grad_m2) * (std::fabs(x) + std::fabs(mean));
  const Real allowed = rounding * std::fabs(want) + 4 * epsilon(sums) * size + least;
  expect_close(found, want, allowed, "gradient", i, j);
}

}  // namespace gencond::test
