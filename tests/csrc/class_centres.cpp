// class_order, class_centres and its gradient against their definitions.
#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "op_testing.h"

namespace gencond::test {
namespace {

using Order = std::tuple<at::Tensor, at::Tensor>(const at::Tensor&);
using Forward = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, at::TensorList);
using Backward = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                            at::ScalarType);

const auto class_order = find_op<Order>("gencond::class_order");
const auto forward = find_op<Forward>("gencond::class_centres");
const auto backward = find_op<Backward>("gencond::class_centres_backward");

constexpr int64_t LOWEST = std::numeric_limits<int64_t>::min();
constexpr int64_t HIGHEST = std::numeric_limits<int64_t>::max();

void check_order(const std::vector<int64_t>& labels, int64_t stride) {
  const auto rows = static_cast<int64_t>(labels.size());
  const auto [order, offsets] = class_order.call(tensor_of(labels, stride));
  std::vector<int64_t> want(rows), starts;
  std::iota(want.begin(), want.end(), 0);
  std::stable_sort(want.begin(), want.end(),
                   [&](int64_t a, int64_t b) { return labels[a] < labels[b]; });
  for (int64_t i = 0; i < rows; ++i) {
    if (i == 0 || labels[want[i]] != labels[want[i - 1]]) starts.push_back(i);
  }
  starts.resize(rows + 1, rows);
  expect(vector_of(order) == want, "the order of ", rows, " labels is wrong");
  expect(vector_of(offsets) == starts, "the offsets of ", rows, " labels are wrong");
}

void sorts(Rng& rng) {
  for (const int64_t rows : {0, 1, 2, 3, 17, 256, 1000, 5000}) {
    for (const int64_t range : {1, 7, 100'000}) {
      for (const int64_t lowest : {int64_t{0}, int64_t{-50}, LOWEST, HIGHEST - 100'000}) {
        std::vector<int64_t> labels(rows);
        for (int64_t& label : labels) label = lowest + rng.below(range);
        check_order(labels, rng.one_of<int64_t>({1, 3}));
        for (int64_t& label : labels) label = rng.one_of<int64_t>({LOWEST, -1, 0, HIGHEST, label});
        check_order(labels, 1);
      }
    }
  }
  expect_error<c10::ValueError>(
      "two dimensions", [&] { class_order.call(tensor_of(Matrix(2, 2), at::kFloat)); });
  expect_error<c10::TypeError>("a type", [&] { class_order.call(at::empty({2}, at::kInt)); });
}

// Rows in any order, cut into classes of any sizes, 0 included; some rows belong to no class.
struct Layout {
  std::vector<int64_t> order, offsets;

  Layout(Rng& rng, int64_t rows, int64_t classes) : order(rows), offsets(classes + 1) {
    std::iota(order.begin(), order.end(), 0);
    rng.shuffle(order);
    for (int64_t c = 1; c <= classes; ++c) offsets[c] = rng.below(rows + 1);
    std::sort(offsets.begin(), offsets.end());
    if (rng.one_in(2)) offsets.back() = classes > 0 ? rows : 0;
  }

  int64_t classes() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t rows() const { return static_cast<int64_t>(order.size()); }
};

void check_centres(const Matrix& x, const Layout& layout, const at::Tensor& found) {
  const Matrix centres = matrix_of(found);
  expect(centres.rows == layout.classes(), "there are ", centres.rows, " centres");
  for (int64_t c = 0; c < layout.classes(); ++c) {
    const int64_t begin = layout.offsets[c], end = layout.offsets[c + 1];
    for (int64_t j = 0; j < x.columns; ++j) {
      Real want = 0, spread = 0;
      for (int64_t k = begin; k < end; ++k) {
        const Real value = x[layout.order[k]][j];
        want += value / static_cast<Real>(end - begin);
        spread = std::max(spread, std::fabs(value - x[layout.order[begin]][j]));
      }
      if (!std::isfinite(want)) {
        expect(!std::isfinite(centres[c][j]), "a value that is not finite was lost");
        continue;
      }
      const Real allowed =
          epsilon(found.scalar_type()) * (2 * std::fabs(want) + 32 * spread) + 0x1p-126L;
      expect_close(centres[c][j], want, allowed, "centre", c, j);
    }
  }
}

void check_gradient(const Matrix& grad, const Layout& layout, const at::Tensor& found) {
  const Matrix out = matrix_of(found);
  Real rounding = 0, least = 0;
  with_type(found.scalar_type(), [&](auto zero) {
    rounding = static_cast<double>(std::numeric_limits<decltype(zero)>::epsilon());
    least = static_cast<double>(std::numeric_limits<decltype(zero)>::min());
  });
  for (int64_t c = 0; c <= layout.classes(); ++c) {
    const bool rest = c == layout.classes();
    const int64_t begin = layout.offsets[c], end = rest ? layout.rows() : layout.offsets[c + 1];
    for (int64_t k = begin; k < end; ++k) {
      for (int64_t j = 0; j < grad.columns; ++j) {
        const Real want = rest ? 0 : grad[c][j] / static_cast<Real>(end - begin);
        expect_close(out[layout.order[k]][j], want, 2 * rounding * std::fabs(want) + least,
                     "gradient", layout.order[k], j);
      }
    }
  }
}

void agrees(Rng& rng) {
  for (const int64_t columns : WIDTHS) {
    for (const at::ScalarType type : TYPES) {
      for (const int64_t most : {1, 40, 900}) {
        const int64_t rows = rng.below(std::min<int64_t>(most, 300'000 / (columns + 1)) + 1);
        const Layout layout(rng, rows, rng.below(rng.one_of<int64_t>({1, 6, rows + 2})));
        const at::Tensor features = tensor_of(
            random_matrix(rng, rows, columns, rng.one_of(ALL_VALUES), type), type,
            rng.one_of(PLACES));
        const Matrix x = matrix_of(features);
        const at::Tensor order = tensor_of(layout.order, rng.one_of<int64_t>({1, 2}));
        const at::Tensor offsets = tensor_of(layout.offsets, rng.one_of<int64_t>({1, 2}));
        const auto wide = type == at::kDouble ? at::kDouble : at::kFloat;
        const at::Tensor grad =
            tensor_of(random_matrix(rng, layout.classes(), columns), wide, rng.one_of(PLACES));
        const Matrix g = matrix_of(grad);
        run_everywhere(
            [&] {
              return Results{forward.call(features, order, offsets, {}),
                             backward.call(grad, order, offsets, type)};
            },
            [&](const Results& found) {
              check_centres(x, layout, found[0]);
              check_gradient(g, layout, found[1]);
            });
      }
    }
  }
}

void refuses_bad_input(Rng& rng) {
  const Matrix x = random_matrix(rng, 6, 4);
  const at::Tensor features = tensor_of(x, at::kFloat);
  const std::vector<int64_t> order{0, 1, 2, 3, 4, 5};
  const auto run = [&](const std::vector<int64_t>& order, const std::vector<int64_t>& offsets) {
    const at::Tensor rows = tensor_of(order), starts = tensor_of(offsets);
    forward.call(features, rows, starts, {});
  };
  run(order, {0, 3, 6});
  for (const int64_t row : {int64_t{-1}, int64_t{6}, LOWEST, HIGHEST}) {
    expect_error<c10::IndexError>("a row", [&] { run({0, 1, 2, 3, 4, row}, {0, 3}); });
  }
  for (const auto& offsets : std::vector<std::vector<int64_t>>{
           {}, {1, 6}, {0, 7}, {0, 4, 3}, {0, -1, 6}, {0, HIGHEST}, {LOWEST, 0}}) {
    expect_error<c10::ValueError>("offsets", [&] { run(order, offsets); });
  }
  expect_error<c10::ValueError>("a short order", [&] { run({0, 1, 2}, {0, 3}); });
  expect_error<c10::ValueError>("gradient of few classes", [&] {
    backward.call(features, tensor_of(order), tensor_of({0, 3, 6}), at::kFloat);
  });
}

}  // namespace
}  // namespace gencond::test

int main(int argc, char** argv) {
  using namespace gencond::test;
  return run_tests(
      argc, argv,
      {{"sorts", sorts}, {"agrees", agrees}, {"refuses bad input", refuses_bad_input}});
}
