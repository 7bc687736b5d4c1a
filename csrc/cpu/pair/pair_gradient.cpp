// PairClass: from the weights of two blocks to the gradient.
#include <algorithm>

#include "cpu/pair/pair_class.h"
#include "cpu/parallel.h"

namespace gencond {
namespace {

// Rows and columns that a task takes. A product takes more rows, because they share what it reads.
constexpr int64_t ROWS = 48, PRODUCT_ROWS = 192, COLUMNS = 128;

}  // namespace

void PairClass::to_nearest_weights(const Block& left, const Block& right) {
  const int64_t ld = blocks_.ld_w;
  parallel_chunks(left.rows, ROWS, [&](int64_t from, int64_t count) {
    std::fill(w_ + from * ld, w_ + (from + count) * ld, 0.0f);
  });
  std::fill(&near_[0][0], &near_[0][0] + MAX_TILES * MAX_TILES, false);
  const auto link = [&](int64_t i, int64_t j) {
    w_[i * ld + j] -= static_cast<float>(1 / p_.count);
    near_[i / TILE][j / TILE] = true;
  };
  for (int64_t i = 0; i < left.rows; ++i) {
    const int64_t j = nearest_[left.first + i] - right.first;
    if (0 <= j && j < right.rows) link(i, j);
  }
  for (int64_t j = 0; j < right.rows; ++j) {
    const int64_t i = nearest_[right.first + j] - left.first;
    if (0 <= i && i < left.rows) link(i, j);
  }
}

void PairClass::accumulate_gradient(const Block& left, const Block& right) {
  // each block gets its share from the other
  const auto both = [&](const auto& f) {
    f(left, right, false);
    if (!same_block(left, right)) f(right, left, true);
  };
  const int64_t rows = divide_up(left.rows, TILE), columns = divide_up(right.rows, TILE);
  bool any_near = false;
  for (int64_t i = 0; i < rows; ++i) {
    any_near = any_near || std::count(near_[i], near_[i] + columns, true) > 0;
  }
  if (any_near) {
    if (!grad_started_) fill_grad(0);
    both([&](auto&&... blocks) { accumulate_near(blocks...); });
    parallel_each(rows * columns, [&](int64_t k) {
      const Tile at{k / columns, k % columns};
      if (near_[at.i][at.j]) p_.weight.clear_negative(tile(left, right, at));
    });
  }
  if (p_.kind != PairKind::NEAREST) both([&](auto&&... blocks) { accumulate_far(blocks...); });
}

void PairClass::accumulate_near(const Block& to, const Block& from, bool transposed) {
  const Block &left = transposed ? from : to, &right = transposed ? to : from;
  const auto at_row = [&](const Block& block, int64_t i) { return block.a + i * blocks_.ld; };
  parallel_each(divide_up(to.rows, TILE), [&](int64_t mine) {
    for (int64_t other = 0; other < divide_up(from.rows, TILE); ++other) {
      const Tile at = transposed ? Tile{other, mine} : Tile{mine, other};
      if (!near_[at.i][at.j]) continue;
      const PairTile pairs = tile(left, right, at);
      for (int64_t i = 0; i < pairs.rows; ++i) {
        const float* w = pairs.data + i * pairs.ld;
        const auto next = [&](int64_t j) { return p_.weight.find_negative(w, j, pairs.columns); };
        for (int64_t j = next(0); j < pairs.columns; j = next(j + 1)) {
          const int64_t row = at.i * TILE + i, column = at.j * TILE + j;
          const int64_t target = transposed ? column : row, source = transposed ? row : column;
          p_.row.add_difference(grad_[to.first + target], at_row(from, source), at_row(to, target),
                                -w[j], p_.columns);
        }
      }
    }
  });
}

void PairClass::accumulate_far(const Block& to, const Block& from, bool transposed) {
  const int64_t column_parts = divide_up(p_.columns, COLUMNS), ld = blocks_.ld_w;
  // W of one block with itself is symmetric, and its columns are read faster than its rows
  const bool by_columns = transposed || same_block(to, from);
  parallel_each(divide_up(to.rows, PRODUCT_ROWS) * column_parts, [&](int64_t task) {
    const int64_t first = task / column_parts * PRODUCT_ROWS, left = task % column_parts * COLUMNS;
    const int64_t rows = std::min(PRODUCT_ROWS, to.rows - first);
    if (left == 0) {
      double* sums = weight_sum_.data() + to.first + first;
      if (transposed) p_.weight.column_sums({w_ + first, ld, from.rows, padded(rows)}, sums);
      else p_.weight.row_sums({w_ + first * ld, ld, rows, padded(from.rows)}, sums);
    }
    p_.product.multiply(by_columns ? w_ + first : w_ + first * ld, ld, by_columns, rows, from.rows,
                        from.a, blocks_.ld, left, std::min(COLUMNS, p_.columns - left),
                        grad_started_, grad_.data() + to.first + first);
  });
}

void PairClass::finish_gradient(const Block& block) {
  parallel_chunks(block.rows, ROWS, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) {
      const int64_t row = block.first + i;
      const float* a = block.a + i * blocks_.ld;
      const auto r = static_cast<float>(weight_sum_[row]);
      // a_i = u_i - mean, and the projection removes r u_i: subtracting r a_i or -r mean therefore
      // comes to the same, and the shorter of the two loses fewer digits
      const bool by_mean = p_.cosine() && norm_[row] > shift_norm_;
      p_.row.subtract(grad_[row], by_mean ? shift_ : a, by_mean ? -r : r, p_.columns);
      if (p_.cosine()) p_.row.project(grad_[row], a, shift_, scale_[row], p_.columns);
    }
  });
}

}  // namespace gencond
