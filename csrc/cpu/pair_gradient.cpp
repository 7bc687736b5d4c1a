// From weights to the gradient.
#include <algorithm>

#include "cpu/pair_class.h"
#include "cpu/parts.h"

namespace gencond {
namespace {

// Rows, and columns, of a task; of a product, enough rows to make use of what is read for them all.
constexpr int64_t ROWS = 48, PRODUCT_ROWS = 192, COLUMNS = 128;

}  // namespace

// The weights of nearest: one for each row and its nearest. There are few, all treated as near.
void PairClass::link_nearest(const Side& left, const Side& right) {
  const int64_t ld = blocks_.ld_w;
  each_part(left.rows, ROWS, [&](int64_t from, int64_t count) {
    std::fill(w_ + from * ld, w_ + (from + count) * ld, 0.0f);
  });
  std::fill(&near_[0][0], &near_[0][0] + MAX_TILES * MAX_TILES, false);
  const auto link = [&](int64_t i, int64_t j) {
    w_[i * ld + j] -= static_cast<float>(1 / p_.count);
    near_[i / TILE][j / TILE] = true;
  };
  for (int64_t i = 0; i < left.rows; ++i) {
    const int64_t j = which_[left.first + i] - right.first;
    if (0 <= j && j < right.rows) link(i, j);
  }
  for (int64_t j = 0; j < right.rows; ++j) {
    const int64_t i = which_[right.first + j] - left.first;
    if (0 <= i && i < left.rows) link(i, j);
  }
}

void PairClass::spread(const Side& left, const Side& right) {
  const auto both = [&](const auto& f) {
    f(left, right, false);
    if (!diagonal(left, right)) f(right, left, true);
  };
  const int64_t rows = parts(left.rows, TILE), columns = parts(right.rows, TILE);
  bool found = false;
  for (int64_t i = 0; i < rows; ++i) {
    found = found || std::count(near_[i], near_[i] + columns, true) > 0;
  }
  if (found) {
    if (!grad_started_) fill_grad(0);
    both([&](auto&&... side) { spread_near(side...); });
    each(rows * columns, [&](int64_t k) {
      const Tile at{k / columns, k % columns};
      if (near_[at.i][at.j]) p_.weight.clear_negative(tile(left, right, at));
    });
  }
  if (p_.kind != PairKind::NEAREST) both([&](auto&&... side) { spread_far(side...); });
}

// g_i += w_ij (a_j - a_i) over the near pairs; transposed: `to` are the columns of the weights.
void PairClass::spread_near(const Side& to, const Side& from, bool transposed) {
  const Side &left = transposed ? from : to, &right = transposed ? to : from;
  const auto at_row = [&](const Side& side, int64_t i) { return side.a + i * blocks_.ld; };
  each(parts(to.rows, TILE), [&](int64_t mine) {
    for (int64_t other = 0; other < parts(from.rows, TILE); ++other) {
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

// g += W A, and the sums of the rows of W.
void PairClass::spread_far(const Side& to, const Side& from, bool transposed) {
  const int64_t column_parts = parts(p_.columns, COLUMNS), ld = blocks_.ld_w;
  // W of a diagonal pair is symmetric, and columns of it are read faster than rows
  const bool by_columns = transposed || diagonal(to, from);
  each(parts(to.rows, PRODUCT_ROWS) * column_parts, [&](int64_t task) {
    const int64_t first = task / column_parts * PRODUCT_ROWS, left = task % column_parts * COLUMNS;
    const int64_t rows = std::min(PRODUCT_ROWS, to.rows - first);
    if (left == 0) {
      double* sums = weight_.data() + to.first + first;
      if (transposed) p_.weight.column_sums({w_ + first, ld, from.rows, padded(rows)}, sums);
      else p_.weight.row_sums({w_ + first * ld, ld, rows, padded(from.rows)}, sums);
    }
    p_.product.multiply(by_columns ? w_ + first : w_ + first * ld, ld, by_columns, rows, from.rows,
                        from.a, blocks_.ld, left, std::min(COLUMNS, p_.columns - left),
                        grad_started_, grad_.data() + to.first + first);
  });
}

void PairClass::finish(const Side& side) {
  each_part(side.rows, ROWS, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) {
      const int64_t row = side.first + i;
      const float* a = side.a + i * blocks_.ld;
      const auto r = static_cast<float>(weight_[row]);
      // a_i = u_i - mean, and r u_i does not survive the projection: of r a_i and -r mean, which
      // amount to the same, the shorter loses fewer digits
      const bool by_mean = p_.cosine() && norm_[row] > shift_norm_;
      p_.row.subtract(grad_[row], by_mean ? shift_ : a, by_mean ? -r : r, p_.columns);
      if (p_.cosine()) p_.row.project(grad_[row], a, shift_, scale_[row], p_.columns);
    }
  });
}

}  // namespace gencond
