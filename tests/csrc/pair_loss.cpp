// pair_loss of every kind against its definition, value and gradient.
#include <limits>
#include <numeric>
#include <optional>
#include <tuple>

#include "pair_reference.h"

namespace gencond::test {
namespace {

using PairLoss = std::tuple<at::Tensor, at::Tensor>(
    const at::Tensor&, const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
    at::TensorList, c10::string_view, double, c10::string_view, bool);

const auto pair_loss = find_op<PairLoss>("gencond::pair_loss");

const std::vector<std::string> KINDS{"infonce", "rbf", "hinge", "nearest"};
const std::vector<at::ScalarType> FEATURES{at::kFloat, at::kHalf, at::kBFloat16};

struct Problem {
  at::Tensor features, order, offsets;
  Matrix x;
  std::vector<std::vector<int64_t>> classes;
  std::vector<int64_t> rest;  // rows of no class
  std::string kind;
  double parameter;

  // sizes: of the classes; the rows beyond them belong to none
  Problem(Rng& rng, int64_t rows, int64_t columns, const std::vector<int64_t>& sizes,
          Values values, at::ScalarType type, const std::string& kind)
      : features(tensor_of(random_matrix(rng, rows, columns, values, type), type,
                           rng.one_of(PLACES))),
        x(matrix_of(features)),
        kind(kind) {
    std::vector<int64_t> shuffled(rows), starts{0};
    std::iota(shuffled.begin(), shuffled.end(), 0);
    rng.shuffle(shuffled);
    for (const int64_t size : sizes) {
      const auto first = shuffled.begin() + starts.back();
      classes.emplace_back(first, first + size);
      starts.push_back(starts.back() + size);
    }
    rest.assign(shuffled.begin() + starts.back(), shuffled.end());
    order = tensor_of(shuffled, rng.one_of<int64_t>({1, 2}));
    offsets = tensor_of(starts, rng.one_of<int64_t>({1, 2}));
    const double distance = std::sqrt(2.0 * static_cast<double>(columns)) + 0.1;
    parameter = kind == "infonce" ? 0.3 : kind == "hinge" ? 1.1 * distance : distance;
  }

  // Loss and gradient.
  Results run(bool need_grad) const {
    const auto [loss, grad] =
        pair_loss.call(features, order, offsets, {}, {}, kind, parameter, "ieee", need_grad);
    return {loss.reshape({1, 1}), grad};
  }

  template <typename Holds>
  bool any(const std::vector<int64_t>& rows, const Holds& holds) const {
    for (const int64_t i : rows) {
      if (std::any_of(x[i], x[i] + x.columns, holds)) return true;
    }
    return false;
  }
};

// The error of the loss that comes from a small relative error of a distance or a cosine.
double unit_of(const Problem& p) {
  if (p.kind == "infonce") return 1 / p.parameter;
  return p.kind == "hinge" ? p.parameter * p.parameter : 1;
}

class Expected {
 public:
  explicit Expected(const Problem& p) : grad_(p.x.rows, p.x.columns), error_(p.x.rows) {
    const bool cosine = p.kind == "infonce" || p.kind == "nearest";
    double count = 0;
    for (const auto& rows : p.classes) {
      const auto n = static_cast<double>(rows.size());
      if (n >= 2) count += cosine ? n : n * (n - 1);
    }
    for (const auto& rows : p.classes) {
      if (p.any(rows, [](Real v) { return !std::isfinite(v); })) {
        loss_ = NAN;
        if (rows.size() < 2) continue;  // a row without a pair has no gradient
        for (const int64_t i : rows) std::fill_n(grad_[i], p.x.columns, NAN);
      } else if (rows.size() >= 2) {
        add(p, rows, count);
      }
    }
    allowed_ = 2e-5 * (std::fabs(loss_) + unit_of(p));
  }

  void check(const Results& found, bool need_grad) const {
    expect_close(matrix_of(found[0])[0][0], loss_, allowed_, "loss");
    expect(need_grad || found[1].numel() == 0, "there is a gradient that nobody wanted");
    if (!need_grad) return;
    const Matrix grad = matrix_of(found[1]);
    for (int64_t i = 0; i < grad.rows; ++i) {
      for (int64_t j = 0; j < grad.columns && error_[i] >= 0; ++j) {
        expect_close(grad[i][j], grad_[i][j], error_[i] + 1e-30L, "gradient", i, j);
      }
    }
  }

 private:
  void add(const Problem& p, const std::vector<int64_t>& rows, double count) {
    const PairReference reference(p.x, rows, p.kind, p.parameter, count);
    const PairResult& result = reference.result();
    loss_ += result.total / count;
    for (size_t i = 0; i < rows.size(); ++i) {
      std::copy_n(result.grad.data() + i * p.x.columns, p.x.columns, grad_[rows[i]]);
      error_[rows[i]] = result.error[i];
    }
  }

  double loss_ = 0, allowed_ = 0;
  Matrix grad_;
  std::vector<double> error_;
};

void check_problem(const Problem& p) {
  const Expected expected(p);
  for (const bool need_grad : {true, false}) {
    run_everywhere([&] { return p.run(need_grad); },
                   [&](const Results& found) { expected.check(found, need_grad); });
  }
}

std::vector<int64_t> random_sizes(Rng& rng, int64_t rows) {
  const int64_t most = rng.one_of<int64_t>({1, 3, 20, rows});
  std::vector<int64_t> sizes;
  for (int64_t left = rows; left > 0 && !(sizes.size() > 2 && rng.one_in(20));) {
    sizes.push_back(rng.below(std::min(left, most) + 1));
    left -= sizes.back();
  }
  return sizes;
}

void agrees(Rng& rng) {
  for (const int64_t columns : WIDTHS) {
    for (const std::string& kind : KINDS) {
      for (const at::ScalarType type : FEATURES) {
        const int64_t most = rng.one_of<int64_t>({2, 20, 150});
        const int64_t rows = rng.below(std::min<int64_t>(most, 30'000 / (columns + 1)) + 1);
        const Values values = rng.one_of<Values>({Values::NORMAL, Values::SPECIAL});
        check_problem(
            Problem(rng, rows, columns, random_sizes(rng, rows), values, type, kind));
      }
    }
  }
}

// Features far from the origin next to their spread, or so small that their squares vanish.
void extreme_values(Rng& rng) {
  for (const std::string& kind : KINDS) {
    check_problem(Problem(rng, 60, 17, {25, 1, 0, 34}, Values::OFFSET, at::kFloat, kind));
    // the gradient of hinge points from one row to the other, however near
    if (kind == "hinge") continue;
    check_problem(Problem(rng, 40, 33, {20, 20}, Values::DENORMAL, at::kBFloat16, kind));
  }
}

// Some classes that all threads share, and one of several blocks.
void large_classes(Rng& rng) {
  const auto check = [](const Problem& p, const std::vector<int>& threads) {
    const Expected expected(p);
    run_everywhere([&] { return p.run(true); },
                   [&](const Results& found) { expected.check(found, true); }, threads);
  };
  for (const std::string& kind : KINDS) {
    check(Problem(rng, 700, 33, {400, 2, 0, 260, 30}, Values::NORMAL, at::kFloat, kind), {2, 3});
    check(Problem(rng, 2055, 3, {2050, 3}, Values::NORMAL, at::kHalf, kind), {2});
  }
}

void refuses_bad_input(Rng& rng) {
  const Problem p(rng, 6, 4, {3, 3}, Values::NORMAL, at::kFloat, "rbf");
  const auto run = [&](const at::Tensor& features, const at::Tensor& order,
                       const at::Tensor& offsets, const char* kind) {
    pair_loss.call(features, order, offsets, {}, {}, kind, 1.0, "ieee", true);
  };
  for (const int64_t row : {int64_t{-1}, int64_t{6}, std::numeric_limits<int64_t>::max()}) {
    const at::Tensor order = tensor_of({0, 1, 2, 3, 4, row});
    expect_error<c10::IndexError>("a row", [&] { run(p.features, order, p.offsets, "rbf"); });
  }
  for (const auto& offsets :
       std::vector<std::vector<int64_t>>{{}, {1, 6}, {0, 7}, {0, 4, 3}, {0, -1, 6}}) {
    expect_error<c10::ValueError>(
        "offsets", [&] { run(p.features, p.order, tensor_of(offsets), "rbf"); });
  }
  expect_error<c10::ValueError>("a kind", [&] { run(p.features, p.order, p.offsets, "rbg"); });
  const at::Tensor wide = tensor_of(p.x, at::kDouble);
  expect_error<c10::TypeError>("a type", [&] { run(wide, p.order, p.offsets, "rbf"); });
  const at::Tensor few = p.features.slice(0, 0, 5);
  expect_error<c10::ValueError>("few rows", [&] { run(few, p.order, p.offsets, "rbf"); });
}

}  // namespace
}  // namespace gencond::test

int main(int argc, char** argv) {
  using namespace gencond::test;
  return run_tests(argc, argv,
                   {{"agrees", agrees},
                    {"extreme values", extreme_values},
                    {"large classes", large_classes},
                    {"refuses bad input", refuses_bad_input}});
}
