// A tensor seen as rows, along which its channels repeat: the kernels of
// cpu/moments/moments_kernel.h take the rows, and this says which columns belong to a channel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "ops/channel_moments.h"

namespace gencond {

// Column j of a row belongs to channel j / inner % channels.
struct ChannelRows {
  int64_t rows, columns, stride;
  int64_t channels, inner;

  int64_t repeats() const { return columns / (channels * inner); }
};

// Whether a sample is taken as one row, because a call for each of its small planes would cost
// more.
inline bool samples_are_rows(const ChannelLayout& x) {
  constexpr int64_t SMALL = 64;
  return x.size < SMALL && x.channels > 1 && x.channel_stride == x.size;
}

// How many positions of channels-last memory are joined to one row, so that it fills whole vectors.
inline int64_t positions_in_row(const ChannelLayout& x) {
  constexpr int64_t LANES = 16, WIDE = 256, NARROW = 128;
  if (x.sample_stride != x.channels || x.channels >= WIDE) return 1;
  int64_t positions = LANES / std::gcd(x.channels, LANES);
  while (positions * x.channels < NARROW) positions *= 2;
  return x.samples >= 8 * positions ? positions : 1;
}

// Calls f(begin, rows) for rows that start at sample `begin` and together cover all samples. This
// takes one call, or two where the last samples do not fill a joined row.
template <typename F>
void for_rows(const ChannelLayout& x, const F& f) {
  if (!x.side_by_side()) {
    f(0, ChannelRows{x.samples, x.channels * x.size, x.sample_stride, x.channels, x.size});
    return;
  }
  const int64_t positions = positions_in_row(x), rows = x.samples / positions;
  f(0, ChannelRows{rows, positions * x.channels, positions * x.sample_stride, x.channels, 1});
  if (const int64_t rest = x.samples - rows * positions; rest > 0) {
    f(rows * positions, ChannelRows{rest, x.channels, x.sample_stride, x.channels, 1});
  }
}

}  // namespace gencond
