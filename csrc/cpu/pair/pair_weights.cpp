// PairClass: from the rows of two blocks to the weights of their pairs.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/pair/pair_class.h"
#include "cpu/parallel.h"

namespace gencond {
namespace {

constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr int64_t ROWS = 48;  // that a task takes

}  // namespace

void PairClass::mirror_tile(const Block& left, const Block& right, const Tile& at,
                            const PairTile& pairs) {
  if (!same_block(left, right) || at.i == at.j) return;
  near_[at.j][at.i] = near_[at.i][at.j];
  p_.product.transpose(pairs.data, pairs.ld, pairs.rows, pairs.columns,
                       w_ + at.j * TILE * pairs.ld + at.i * TILE, pairs.ld);
}

void PairClass::to_distances(const Block& left, const Block& right) {
  const auto all = tiles_between(left, right);
  const int64_t columns = padded(p_.columns), ld = blocks_.ld;
  parallel_each(static_cast<int64_t>(all.size()), [&](int64_t k) {
    const Tile& at = all[k];
    const PairTile pairs = tile(left, right, at);
    const float *a = left.a + at.i * TILE * ld, *b = right.a + at.j * TILE * ld;
    const bool same = a == b;
    p_.product.gram(a, b, ld, columns, pairs.rows, std::min(TILE, right.rows - at.j * TILE), same,
                    pairs.data, pairs.ld);
    if (same) {
      p_.product.mirror(pairs.data, pairs.rows, pairs.ld);
      // a row is no partner of itself
      for (int64_t i = 0; i < pairs.rows; ++i) pairs.data[i * pairs.ld + i] = -INFINITE;
    }
    near_[at.i][at.j] =
        p_.weight.distances(pairs, a, b, ld, columns, norm_.data() + left.first + at.i * TILE,
                            norm_.data() + right.first + at.j * TILE);
    if (has_row_terms()) mirror_tile(left, right, at, pairs);
  });
}

void PairClass::to_weights(const Block& left, const Block& right) {
  const auto all = tiles_between(left, right);
  std::vector<double> sums(all.size());
  const double t = p_.parameter, n = p_.count;
  parallel_each(static_cast<int64_t>(all.size()), [&](int64_t k) {
    const Tile& at = all[k];
    const PairTile pairs = tile(left, right, at);
    const int64_t i = left.first + at.i * TILE, j = right.first + at.j * TILE;
    if (p_.kind == PairKind::RBF) {
      sums[k] = p_.weight.rbf(pairs, 1 / (2 * t * t), 2 / (t * t * n));
    } else if (p_.kind == PairKind::HINGE) {
      sums[k] = p_.weight.hinge(pairs, t, 4 / n);
    } else {
      p_.weight.infonce(pairs, 1 / (2 * t), 1 / (t * n), &deficit_[i], &deficit_[j], &top_[i],
                        &top_[j], &log_exp_sum_[i], &log_exp_sum_[j]);
    }
    if (i != j) sums[k] *= 2;  // and its mirror image
    if (p_.grad != nullptr) mirror_tile(left, right, at, pairs);
  });
  for (const double sum : sums) sum_ += sum;
}

void PairClass::reduce_rows(const Block& left, const Block& right) {
  const auto reduce_row = [&](const float* d2, int64_t row, int64_t first, int64_t columns) {
    const float* deficit = deficit_.data() + first;
    if (p_.kind == PairKind::NEAREST) {
      p_.weight.hard_top(d2, deficit, columns, first, &top_[row], &nearest_[row]);
    } else {
      p_.weight.soft_top(d2, deficit, columns, 1 / (2 * p_.parameter), &top_[row], &exp_sum_[row]);
    }
  };
  parallel_chunks(left.rows, ROWS, [&](int64_t from, int64_t count) {
    for (int64_t i = from; i < from + count; ++i) {
      reduce_row(w_ + i * blocks_.ld_w, left.first + i, right.first, padded(right.rows));
    }
  });
  if (same_block(left, right)) return;
  parallel_chunks(right.rows, TILE, [&](int64_t from, int64_t count) {
    alignas(64) float transposed[TILE * TILE];
    for (int64_t i = 0; i < left.rows; i += TILE) {
      const int64_t rows = std::min(TILE, left.rows - i);  // a multiple of PAD
      p_.product.transpose(w_ + i * blocks_.ld_w + from, blocks_.ld_w, rows, count, transposed,
                           TILE);
      for (int64_t j = 0; j < count; ++j) {
        reduce_row(transposed + j * TILE, right.first + from + j, left.first + i, rows);
      }
    }
  });
}

double PairClass::sum_row_terms() {
  if (!finite_) return 0;
  double sum = 0;
  for (int64_t i = 0; i < rows_; ++i) {
    const double cosine = 1 + (deficit_[i] + static_cast<double>(top_[i])) / 2;
    if (p_.kind == PairKind::NEAREST) {
      sum += cosine;
    } else {
      log_exp_sum_[i] = static_cast<float>(std::log(exp_sum_[i]));
      sum += cosine / p_.parameter + std::log(exp_sum_[i] / static_cast<double>(rows_ - 1));
    }
  }
  return sum;
}

}  // namespace gencond
