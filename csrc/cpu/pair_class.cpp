#include "cpu/pair_class.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/parts.h"

namespace gencond {
namespace {

constexpr int64_t ROWS = 48, COLUMNS = 128;  // of a task

// What lies at one place of neighbouring rows must not compete for a few sets of a cache: rows are
// an odd number of lines apart, and not nearly a multiple of 4 KB.
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
  size = padded(parts(rows, std::max<int64_t>(1, parts(rows, limit))));
  count = size == 0 ? 0 : parts(rows, size);
  ld_w = leading(size);
}

int64_t PairBlocks::scratch() const {
  return std::min<int64_t>(count, 2) * size * ld + size * ld_w + ld;
}

double PairClass::run(int64_t begin, int64_t rows) {
  start(begin, rows);
  const bool nearest = p_.kind == PairKind::NEAREST, one_block = blocks_.count == 1;
  if (ranks()) {
    for_each_pair_of_blocks([&](const Side& left, const Side& right) {
      measure(left, right);
      rank(left, right);
    });
    sum_ = close_ranks();
    if (finite_ && p_.grad == nullptr) return sum_;
  }
  for_each_pair_of_blocks([&](const Side& left, const Side& right) {
    if (nearest) {
      link_nearest(left, right);
    } else {
      if (!ranks() || !one_block) measure(left, right);
      weigh(left, right);
    }
    if (p_.grad == nullptr) return;
    spread(left, right);
    if (right.first + right.rows == rows_) finish(left);
  });
  return finite_ ? sum_ : fail();
}

void PairClass::start(int64_t begin, int64_t rows) {
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

  // what is beyond the rows pairs the last of them with the padding
  const int64_t size = padded(rows);
  norm_.assign(size, std::numeric_limits<float>::infinity());
  for (auto* values : {&scale_, &deficit_, &log_total_}) values->assign(size, 0);
  top_.assign(size, -std::numeric_limits<float>::infinity());
  std::fill(top_.begin() + rows, top_.end(), 0.0f);
  total_.assign(size, 0);
  weight_.assign(size, 0);
  which_.assign(size, 0);
  if (p_.grad == nullptr) return;
  grad_.resize(rows);
  for (int64_t i = 0; i < rows; ++i) grad_[i] = p_.grad + p_.order[begin + i] * p_.columns;
  grad_started_ = false;
  if (blocks_.count > 1 || p_.kind == PairKind::NEAREST) fill_grad(0);
}

template <typename F>
void PairClass::for_each_pair_of_blocks(const F& f) {
  for (int64_t i = 0; i < blocks_.count && finite_; ++i) {
    const Side left = load(0, i);
    for (int64_t j = i; j < blocks_.count && finite_; ++j) {
      const Side right = j == i ? left : load(1, j);
      if (finite_) f(left, right);
    }
  }
}

PairClass::Side PairClass::load(int slot, int64_t block) {
  const int64_t first = block * blocks_.size, rows = std::min(blocks_.size, rows_ - first);
  const int64_t ld = blocks_.ld, columns = padded(p_.columns);
  float* a = a_[slot];
  const Side side{first, rows, a};
  if (loaded_[slot] == block) return side;
  const bool known = loaded_[0] >= 0 || loaded_[1] >= 0;  // the shift
  loaded_[slot] = block;

  each_part(rows, ROWS, [&](int64_t from, int64_t count) {
    for (int64_t i = from; i < from + count; ++i) {
      const int64_t at = begin_ + first + i;
      const int64_t row = p_.order[at], ahead = p_.order[std::min(at + 2, p_.listed - 1)];
      const float square =
          p_.reader.copy(p_.x, row * p_.stride, ahead * p_.stride, p_.columns, a + i * ld,
                         p_.grad == nullptr ? a : grad_[first + i]);
      const bool zero = square == 0;
      deficit_[first + i] = zero ? -1.0f : 0.0f;
      scale_[first + i] = !p_.cosine() ? 1.0f : zero ? 0.0f : 1.0f / std::sqrt(square);
    }
  });
  if (!known) {
    each_part(columns, COLUMNS, [&](int64_t from, int64_t count) {
      p_.row.mean(a + from, ld, scale_.data() + first, rows, count, shift_ + from);
    });
    shift_norm_ = 0;
    for (int64_t j = 0; j < columns; ++j) shift_norm_ += shift_[j] * shift_[j];
  }
  each_part(rows, ROWS, [&](int64_t from, int64_t count) {
    for (int64_t i = from; i < from + count; ++i) {
      norm_[first + i] = p_.row.centre(a + i * ld, scale_[first + i], shift_, columns);
    }
  });
  for (int64_t i = first; i < first + rows; ++i) finite_ = finite_ && std::isfinite(norm_[i]);
  return side;
}

std::vector<PairClass::Tile> PairClass::tiles(const Side& left, const Side& right) const {
  std::vector<Tile> all;
  for (int64_t i = 0; i < parts(left.rows, TILE); ++i) {
    for (int64_t j = diagonal(left, right) ? i : 0; j < parts(right.rows, TILE); ++j) {
      all.push_back({i, j});
    }
  }
  return all;
}

PairTile PairClass::tile(const Side& left, const Side& right, const Tile& at) const {
  const int64_t rows = std::min(TILE, left.rows - at.i * TILE);
  const int64_t columns = padded(std::min(TILE, right.rows - at.j * TILE));
  return {w_ + at.i * TILE * blocks_.ld_w + at.j * TILE, blocks_.ld_w, rows, columns};
}

void PairClass::fill_grad(float value) {
  each_part(rows_, ROWS, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) std::fill_n(grad_[i], p_.columns, value);
  });
  grad_started_ = true;
}

double PairClass::fail() {
  constexpr float NOT_A_NUMBER = std::numeric_limits<float>::quiet_NaN();
  if (p_.grad != nullptr) fill_grad(NOT_A_NUMBER);
  return NOT_A_NUMBER;
}

}  // namespace gencond
