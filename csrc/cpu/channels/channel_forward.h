// The moments of every channel, in double. Tasks have a fixed size, so the bits do not depend on
// the number of threads. Contract: ops/channel_moments.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "cpu/channels/channel_kernel.h"
#include "cpu/channels/channel_rows.h"
#include "cpu/moments/class_tiles.h"
#include "cpu/moments/moments_kernel.h"
#include "cpu/parallel.h"

namespace gencond {

struct ChannelSum {
  int64_t count = 0;
  double mean = 0, m2 = 0;

  // Chan, Golub and LeVeque (1979), eq. 2.1
  void merge(int64_t other_count, double other_mean, double other_m2) {
    const double share = static_cast<double>(other_count) / (count + other_count);
    const double delta = other_mean - mean;
    mean += delta * share;
    m2 += other_m2 + delta * delta * share * count;
    count += other_count;
  }
};

using ChannelSums = std::vector<ChannelSum>;

// The least number of tasks for a thread, for tasks of so many elements, that is worth its start.
inline int64_t task_grain(int64_t elements) {
  return std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, elements));
}

template <typename T>
void moments_of_planes(const T* x, const ChannelLayout& layout, ChannelSums& sums) {
  using A = accumulate_t<T>;
  constexpr int64_t TASK = 16384;  // elements, about
  const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_channel_table).get<T>();
  const int64_t segment = std::min(layout.size, TASK), segments = divide_up(layout.size, segment);
  const int64_t planes = std::max<int64_t>(1, TASK / layout.size);
  const int64_t tasks = divide_up(layout.samples, planes) * segments;  // of a channel
  ChannelSums partial(layout.channels * tasks);
  const auto load_shift = GENCOND_ACTIVE_TABLE(gencond_moments_table).get<T>().shift;
  const auto origin = [&](int64_t c) {
    A shift;
    load_shift(x + c * layout.channel_stride, 1, &shift);
    return shift;
  };
  const auto run = [&](int64_t task) {
    // tasks follow memory: all channels of some samples, then those of the next samples
    const int64_t c = task % layout.channels, k = task / layout.channels;
    const int64_t n = k / segments * planes, i = k % segments * segment;
    const int64_t count = std::min(planes, layout.samples - n);
    const int64_t size = std::min(segment, layout.size - i);
    ChannelSum& to = partial[c * tasks + k];
    kernels.forward(x + n * layout.sample_stride + c * layout.channel_stride + i, count,
                    layout.sample_stride, size, origin(c), &to.mean, &to.m2);
    to.count = count * size;
  };
  at::parallel_for(0, layout.channels * tasks, task_grain(planes * segment),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t i = begin; i < end; ++i) run(i);
                   });
  for (int64_t c = 0; c < layout.channels; ++c) {
    for (int64_t k = 0; k < tasks; ++k) {
      const ChannelSum& part = partial[c * tasks + k];
      sums[c].merge(part.count, part.mean, part.m2);
    }
    sums[c].mean += origin(c);
  }
}

// Moments of every column, in double.
struct ColumnMoments {
  std::unique_ptr<double[]> mean, m2;

  explicit ColumnMoments(int64_t columns) : mean(new double[columns]), m2(new double[columns]) {}
};

template <typename T>
ColumnMoments moments_of_columns(const T* x, const ChannelRows& in) {
  using A = accumulate_t<T>;
  constexpr int64_t CHUNK = 512;
  static const std::vector<int64_t> in_order = [] {
    std::vector<int64_t> order(CHUNK);
    std::iota(order.begin(), order.end(), 0);
    return order;
  }();
  const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_moments_table).get<T>();
  const int64_t chunks = divide_up(in.rows, CHUNK), blocks = column_blocks(in.columns);
  const std::unique_ptr<A[]> partial(new A[2 * chunks * in.columns]);
  A *mean = partial.get(), *m2 = mean + chunks * in.columns;
  ColumnMoments out(in.columns);
  const std::unique_ptr<A[]> shift(new A[in.columns]);
  kernels.shift(x, in.columns, shift.get());
  const auto block_of = [&](int64_t block) { return block * BLOCK_COLUMNS; };
  const auto width_of = [&](int64_t left) { return std::min(BLOCK_COLUMNS, in.columns - left); };
  at::parallel_for(
      0, chunks * blocks,
      task_grain(std::min(in.rows, CHUNK) * std::min(in.columns, BLOCK_COLUMNS)),
      [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const int64_t left = block_of(task % blocks), chunk = task / blocks;
          const int64_t width = width_of(left), to = chunk * in.columns + left;
          const int64_t rows = std::min(CHUNK, in.rows - chunk * CHUNK);
          kernels.forward(x + chunk * CHUNK * in.stride + left, in.stride, in_order.data(), rows,
                          rows, width, shift.get() + left, mean + to, m2 + to);
        }
      });
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t left = block_of(block), width = width_of(left);
    kernels.template fold<double>()({mean + left, m2 + left, in.columns, in.rows, CHUNK},
                                    shift.get() + left, 0, width, out.mean.get() + left,
                                    out.m2.get() + left);
  }
  return out;
}

// Merges the columns of every channel into its sum. All columns have the same number of rows.
inline void merge_columns(const ColumnMoments& columns, const ChannelRows& in, ChannelSums& sums) {
  const int64_t repeats = in.repeats(), apart = in.channels * in.inner;
  const auto of_channel = [&](int64_t c) {
    const double *mean = columns.mean.get() + c * in.inner, *m2 = columns.m2.get() + c * in.inner;
    double total = 0, within = 0, between = 0;
    for (int64_t k = 0; k < repeats; ++k) {
      for (int64_t i = 0; i < in.inner; ++i) total += mean[k * apart + i];
    }
    const double centre = total / (repeats * in.inner);
    for (int64_t k = 0; k < repeats; ++k) {
      for (int64_t i = 0; i < in.inner; ++i) {
        const double deviation = mean[k * apart + i] - centre;
        between += deviation * deviation;
        within += m2[k * apart + i];
      }
    }
    sums[c].merge(in.rows * repeats * in.inner, centre, within + in.rows * between);
  };
  at::parallel_for(0, in.channels, task_grain(repeats * in.inner),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t c = begin; c < end; ++c) of_channel(c);
                   });
}

template <typename T>
ChannelSums channel_sums(const T* x, const ChannelLayout& layout) {
  ChannelSums sums(layout.channels);
  if (layout.side_by_side() || samples_are_rows(layout)) {
    for_rows(layout, [&](int64_t first, const ChannelRows& rows) {
      merge_columns(moments_of_columns(x + first * layout.sample_stride, rows), rows, sums);
    });
  } else {
    moments_of_planes(x, layout, sums);
  }
  return sums;
}

}  // namespace gencond
