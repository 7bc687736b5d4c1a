// Moments updated in place, and the loss that matches them with a target's.
#include <ATen/ops/zeros.h>

#include <optional>
#include <tuple>

#include "moments_reference.h"

namespace gencond::test {
namespace {

using Update = void(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                    const at::Tensor&);
using Matching = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
    double, double, std::optional<int64_t>);

const auto update = find_op<Update>("gencond::class_moments_update_");
const auto matching = find_op<Matching>("gencond::moment_matching");

Results tables(int64_t classes, int64_t columns, at::ScalarType type) {
  return {at::zeros({classes}, at::kLong), at::zeros({classes, columns}, type),
          at::zeros({classes, columns}, type)};
}

// In up to three batches, some of them empty.
void updates_agree(Rng& rng) {
  for (const int64_t columns : WIDTHS) {
    for (const at::ScalarType type : TYPES) {
      const int64_t rows = rng.below(std::min<int64_t>(600, 300'000 / (columns + 1)) + 1);
      const int64_t classes = 1 + rng.below(rng.one_of<int64_t>({1, 5, rows + 2}));
      const Problem p(rng, rows, columns, classes, type);
      const auto table = rng.one_of<at::ScalarType>({at::kFloat, at::kDouble});
      std::vector<int64_t> cuts{0, rng.below(rows + 1), rng.below(rows + 1), rows};
      std::sort(cuts.begin(), cuts.end());
      const bool wide = table == at::kDouble && type == at::kDouble;
      run_everywhere(
          [&] {
            Results to = tables(classes, columns, table);
            for (size_t k = 0; k + 1 < cuts.size(); ++k) {
              update.call(to[0], to[1], to[2], p.features.slice(0, cuts[k], cuts[k + 1]),
                          p.labels.slice(0, cuts[k], cuts[k + 1]));
            }
            return to;
          },
          [&](const Results& found) {
            const Real rounding = 3 * epsilon(wide ? at::kDouble : at::kFloat);
            check_moments(p, found, rounding, 3 * epsilon(table));
          });
    }
  }
}

void refused_updates_change_nothing(Rng& rng) {
  const Problem p(rng, 500, 300, 4, at::kFloat, Values::NORMAL);
  Results to = tables(4, 300, at::kFloat);
  std::vector<int64_t> labels = p.label;
  labels[rng.below(500)] = rng.one_of<int64_t>({-1, 4, std::numeric_limits<int64_t>::max()});
  const at::Tensor bad = tensor_of(labels);
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    expect_error<c10::IndexError>("a label",
                                  [&] { update.call(to[0], to[1], to[2], p.features, bad); });
  }
  const Results untouched = tables(4, 300, at::kFloat);
  for (size_t k = 0; k < to.size(); ++k) expect(same_bits(to[k], untouched[k]), "table ", k);
  const at::Tensor narrow = to[1].slice(1, 0, 299);
  expect_error<c10::ValueError>(
      "a narrow table", [&] { update.call(to[0], narrow, to[2], p.features, p.labels); });
}

struct Target {
  at::Tensor count, mean, m2;
  std::vector<int64_t> counts;
  Matrix means, m2s;

  Target(Rng& rng, int64_t classes, int64_t columns, at::ScalarType type)
      : counts(classes), means(classes, columns), m2s(classes, columns) {
    for (int64_t& n : counts) n = rng.below(4);
    for (Real& value : means.data) value = rng.normal();
    for (Real& value : m2s.data) value = rng.one_in(4) ? 0 : std::fabs(rng.normal());
    count = tensor_of(counts);
    mean = tensor_of(means, type);
    m2 = tensor_of(m2s, type);
    means = matrix_of(mean);
    m2s = matrix_of(m2);
  }
};

struct Wanted {
  Real loss = 0, size = 0;  // size: the sum of the magnitudes of what is added up
  Matrix grad_mean, grad_m2;

  Wanted(const Problem& p, const Target& t, Real mean_weight, Real std_weight,
         std::optional<int64_t> stored)
      : grad_mean(p.classes, p.x.columns), grad_m2(p.classes, p.x.columns) {
    for (int64_t c = 0; c < p.classes; ++c) {
      const auto n = static_cast<Real>(std::count(p.label.begin(), p.label.end(), c));
      const auto real = static_cast<Real>(t.counts[c]);
      if (n == 0 || real == 0) continue;
      const Real draw = stored && n > 1 ? (1 - n / *stored) / (n * (n - 1)) : 0;
      for (int64_t j = 0; j < p.x.columns; ++j) {
        const Moments m(p.values_of(c, j));
        const Real away = m.mean - t.means[c][j];
        add(mean_weight * away * away);
        add(-mean_weight * draw * m.m2);
        grad_mean[c][j] = 2 * mean_weight * away;
        grad_m2[c][j] = -mean_weight * draw;
        if (n < 2 || real < 2) continue;
        const Real sigma = std::sqrt(m.m2 / (n - 1));
        const Real wider = sigma - std::sqrt(t.m2s[c][j] / (real - 1));
        add(std_weight * wider * wider);
        if (sigma > 0) grad_m2[c][j] += std_weight * wider / (sigma * (n - 1));
      }
    }
  }

  void add(Real term) {
    loss += term;
    size += std::fabs(term);
  }
};

void matching_agrees(Rng& rng) {
  for (const int64_t columns : WIDTHS) {
    for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
      const int64_t rows = rng.below(std::min<int64_t>(300, 100'000 / (columns + 1)) + 1);
      const int64_t classes = 1 + rng.below(rng.one_of<int64_t>({1, 5, rows + 2}));
      const Problem p(rng, rows, columns, classes, type, Values::NORMAL);
      const Target t(rng, classes, columns, rng.one_of<at::ScalarType>({at::kFloat, at::kDouble}));
      const Real mean_weight = rng.normal(), std_weight = rng.normal();
      const auto stored = rng.one_in(2) ? std::optional<int64_t>(rows + 1) : std::nullopt;
      const Wanted want(p, t, static_cast<double>(mean_weight), static_cast<double>(std_weight),
                        stored);
      const Real unit = epsilon(type);
      run_everywhere(
          [&] {
            const auto [loss, count, mean, grad_mean, grad_m2] = matching.call(
                p.features, p.labels, t.count, t.mean, t.m2, static_cast<double>(mean_weight),
                static_cast<double>(std_weight), stored);
            return Results{loss.reshape({1, 1}), count, mean, grad_mean, grad_m2};
          },
          [&](const Results& found) {
            expect_close(matrix_of(found[0])[0][0], want.loss, 256 * unit * (want.size + 1),
                         "loss");
            const Matrix grad_mean = matrix_of(found[3]), grad_m2 = matrix_of(found[4]);
            for (int64_t c = 0; c < classes; ++c) {
              for (int64_t j = 0; j < columns; ++j) {
                expect_close(grad_mean[c][j], want.grad_mean[c][j], 256 * unit, "grad_mean", c, j);
                const Real size = 1 + std::fabs(want.grad_m2[c][j]);
                expect_close(grad_m2[c][j], want.grad_m2[c][j], 1024 * unit * size * size,
                             "grad_m2", c, j);
              }
            }
          });
    }
  }
}

}  // namespace
}  // namespace gencond::test

int main(int argc, char** argv) {
  using namespace gencond::test;
  return run_tests(argc, argv,
                   {{"updates agree", updates_agree},
                    {"refused updates change nothing", refused_updates_change_nothing},
                    {"matching agrees", matching_agrees}});
}
