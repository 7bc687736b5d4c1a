#include "cpu/pair/pair_class.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/parallel.h"

namespace gencond {
namespace {

constexpr int64_t ROWS = 48, COLUMNS = 128;  // that a task takes
constexpr float INFINITE = std::numeric_limits<float>::infinity();
constexpr float NOT_A_NUMBER = std::numeric_limits<float>::quiet_NaN();
constexpr float MAX_NORM = std::numeric_limits<float>::max() / 4;  // squared, of an operand

// The distance between rows, in floats. Caches map addresses to sets by their low bits, so elements
// of one column must not lie a power of two apart. The distance is an odd number of cache lines,
// and not close to a multiple of 4 KB.
int64_t leading(int64_t columns) {
  constexpr int64_t PAGE = 64, MARGIN = 9;  // lines
  int64_t lines = padded(columns) / PAD;
  if (lines <= MARGIN / 2) return lines * PAD;  // a few rows fill a page, whatever the distance
  lines |= 1;
  if (lines > PAGE - MARGIN && lines % PAGE > PAGE - MARGIN) lines += PAGE - lines % PAGE;
  if (lines >= PAGE && lines % PAGE < MARGIN) lines += MARGIN - lines % PAGE;
  return lines * PAD;
}

}  // namespace

PairBlocks::PairBlocks(int64_t rows, int64_t columns) : ld(leading(columns)) {
  const double width = static_cast<double>(ld);
  // size^2 + 2 size ld = MAX_SCRATCH
  const auto fitting = static_cast<int64_t>(std::sqrt(width * width + MAX_SCRATCH) - width);
  const int64_t limit = std::clamp(fitting / PAD * PAD, PAD, MAX_SIZE);
  size = padded(divide_up(rows, std::max<int64_t>(1, divide_up(rows, limit))));
  count = size == 0 ? 0 : divide_up(rows, size);
  ld_w = leading(size);
}

int64_t PairBlocks::scratch() const {
  return std::min<int64_t>(count, 2) * size * ld + size * ld_w + ld;
}

double PairClass::run(int64_t begin, int64_t rows) {
  start_class(begin, rows);
  const bool nearest = p_.kind == PairKind::NEAREST, one_block = blocks_.count == 1;
  if (has_row_terms()) {
    for_each_pair_of_blocks([&](const Block& left, const Block& right) {
      to_distances(left, right);
      reduce_rows(left, right);
    });
    sum_ = sum_row_terms();
    if (finite_ && p_.grad == nullptr) return sum_;
  }
  for_each_pair_of_blocks([&](const Block& left, const Block& right) {
    if (nearest) {
      to_nearest_weights(left, right);
    } else {
      if (!has_row_terms() || !one_block) to_distances(left, right);
      to_weights(left, right);
    }
    if (p_.grad == nullptr) return;
    accumulate_gradient(left, right);
    if (right.first + right.rows == rows_) finish_gradient(left);
  });
  return finite_ ? sum_ : nan_result();
}

void PairClass::start_class(int64_t begin, int64_t rows) {
  begin_ = begin;
  rows_ = rows;
  blocks_ = PairBlocks(rows, p_.columns);
  loaded_[0] = loaded_[1] = -1;
  finite_ = true;
  sum_ = 0;
  a_[0] = scratch_;
  a_[1] = scratch_ + (std::min<int64_t>(blocks_.count, 2) - 1) * blocks_.size * blocks_.ld;
  w_ = a_[1] + blocks_.size * blocks_.ld;
  shift_ = w_ + blocks_.size * blocks_.ld_w;

  // rows of padding are infinitely far from every row, so that their weights are 0
  const int64_t size = padded(rows);
  norm_.assign(size, INFINITE);
  for (auto* values : {&scale_, &deficit_, &log_exp_sum_}) values->assign(size, 0);
  top_.assign(size, -INFINITE);
  std::fill(top_.begin() + rows, top_.end(), 0.0f);
  exp_sum_.assign(size, 0);
  weight_sum_.assign(size, 0);
  nearest_.assign(size, 0);
  if (p_.grad == nullptr) return;
  grad_.resize(rows);
  for (int64_t i = 0; i < rows; ++i) grad_[i] = p_.grad + p_.order[begin + i] * p_.columns;
  grad_started_ = false;
  if (blocks_.count > 1 || p_.kind == PairKind::NEAREST) fill_grad(0);
}

template <typename F>
void PairClass::for_each_pair_of_blocks(const F& f) {
  for (int64_t i = 0; i < blocks_.count && finite_; ++i) {
    const Block left = load_block(0, i);
    for (int64_t j = i; j < blocks_.count && finite_; ++j) {
      const Block right = j == i ? left : load_block(1, j);
      if (finite_) f(left, right);
    }
  }
}

PairClass::Block PairClass::load_block(int slot, int64_t block) {
  const int64_t first = block * blocks_.size, rows = std::min(blocks_.size, rows_ - first);
  const int64_t ld = blocks_.ld, columns = padded(p_.columns);
  float* a = a_[slot];
  const Block loaded{first, rows, a};
  if (loaded_[slot] == block) return loaded;
  const bool has_shift = loaded_[0] >= 0 || loaded_[1] >= 0;
  loaded_[slot] = block;

  parallel_chunks(rows, ROWS, [&](int64_t from, int64_t count) {
    for (int64_t i = from; i < from + count; ++i) {
      const int64_t at = begin_ + first + i;
      const int64_t row = p_.order[at], ahead = p_.order[std::min(at + 2, p_.listed - 1)];
      const float square =
          p_.reader.copy(p_.x, row * p_.stride, ahead * p_.stride, p_.columns, a + i * ld,
                         p_.grad == nullptr ? a : grad_[first + i]);
      const bool zero = square == 0;
      deficit_[first + i] = zero ? -1.0f : 0.0f;
      // a square that overflows would leave a finite zero
      const float inverse = square < INFINITE ? 1.0f / std::sqrt(square) : NOT_A_NUMBER;
      scale_[first + i] = !p_.cosine() ? 1.0f : zero ? 0.0f : inverse;
    }
  });
  if (!has_shift) {
    parallel_chunks(columns, COLUMNS, [&](int64_t from, int64_t count) {
      p_.row.mean(a + from, ld, scale_.data() + first, rows, count, shift_ + from);
    });
    shift_norm_ = 0;
    for (int64_t j = 0; j < columns; ++j) shift_norm_ += shift_[j] * shift_[j];
  }
  parallel_chunks(rows, ROWS, [&](int64_t from, int64_t count) {
    for (int64_t i = from; i < from + count; ++i) {
      norm_[first + i] = p_.row.centre(a + i * ld, scale_[first + i], shift_, columns);
    }
  });
  // |a - b|^2 is at most 2 |a|^2 + 2 |b|^2, which must not overflow either
  for (int64_t i = first; i < first + rows; ++i) finite_ = finite_ && norm_[i] < MAX_NORM;
  return loaded;
}

std::vector<PairClass::Tile> PairClass::tiles_between(const Block& left, const Block& right) const {
  std::vector<Tile> all;
  for (int64_t i = 0; i < divide_up(left.rows, TILE); ++i) {
    for (int64_t j = same_block(left, right) ? i : 0; j < divide_up(right.rows, TILE); ++j) {
      all.push_back({i, j});
    }
  }
  return all;
}

PairTile PairClass::tile(const Block& left, const Block& right, const Tile& at) const {
  const int64_t rows = std::min(TILE, left.rows - at.i * TILE);
  const int64_t columns = padded(std::min(TILE, right.rows - at.j * TILE));
  return {w_ + at.i * TILE * blocks_.ld_w + at.j * TILE, blocks_.ld_w, rows, columns};
}

void PairClass::fill_grad(float value) {
  parallel_chunks(rows_, ROWS, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) std::fill_n(grad_[i], p_.columns, value);
  });
  grad_started_ = true;
}

double PairClass::nan_result() {
  if (p_.grad != nullptr) fill_grad(NOT_A_NUMBER);
  return NOT_A_NUMBER;
}

}  // namespace gencond
