// The gradient of the moments of every channel, plane by plane or row by row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/channels/channel_forward.h"

namespace gencond {

// One entry for each channel, or for each column of a row.
template <typename A>
struct MomentGradients {
  const A *grad_mean, *grad_m2, *mean;
  A count;
};

template <typename T>
void gradient_of_planes(const T* x, const ChannelLayout& from,
                        const MomentGradients<accumulate_t<T>>& tables, T* grad,
                        const ChannelLayout& to) {
  constexpr int64_t SEGMENT = 16384;
  const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_channel_table).get<T>();
  const int64_t segment = std::min(from.size, SEGMENT), segments = divide_up(from.size, segment);
  const auto run = [&](int64_t task) {
    const int64_t i = task % segments * segment, plane = task / segments;
    const int64_t c = plane % from.channels, n = plane / from.channels;
    kernels.backward(x + n * from.sample_stride + c * from.channel_stride + i,
                     std::min(segment, from.size - i), tables.grad_mean[c], tables.grad_m2[c],
                     tables.mean[c], tables.count,
                     grad + n * to.sample_stride + c * to.channel_stride + i);
  };
  at::parallel_for(0, from.samples * from.channels * segments, task_grain(segment),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t task = begin; task < end; ++task) run(task);
                   });
}

// Repeats the value of each channel for all its columns.
template <typename A>
std::vector<A> per_column(const A* table, const ChannelRows& rows) {
  std::vector<A> out(rows.columns);
  A* to = out.data();
  for (int64_t k = 0; k < rows.repeats(); ++k) {
    for (int64_t c = 0; c < rows.channels; ++c, to += rows.inner) {
      std::fill_n(to, rows.inner, table[c]);
    }
  }
  return out;
}

template <typename T>
void gradient_of_rows(const T* x, const ChannelRows& in,
                      const MomentGradients<accumulate_t<T>>& tables, T* grad, int64_t stride) {
  const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_moments_table).get<T>();
  const auto grad_mean = per_column(tables.grad_mean, in), grad_m2 = per_column(tables.grad_m2, in);
  const auto mean = per_column(tables.mean, in);
  const int64_t blocks = column_blocks(in.columns);
  // the outer loop is over blocks of columns, so that their tables stay in the first-level cache
  at::parallel_for(0, in.rows * blocks, task_grain(std::min(in.columns, BLOCK_COLUMNS)),
                   [&](int64_t begin, int64_t end) {
                     int64_t left = begin / in.rows * BLOCK_COLUMNS, row = begin % in.rows;
                     for (int64_t task = begin; task < end; ++task) {
                       kernels.backward(x + row * in.stride + left, grad_mean.data() + left,
                                        grad_m2.data() + left, mean.data() + left, tables.count,
                                        std::min(BLOCK_COLUMNS, in.columns - left),
                                        grad + row * stride + left);
                       if (++row == in.rows) {
                         row = 0;
                         left += BLOCK_COLUMNS;
                       }
                     }
                   });
}

// The gradient of all elements. x and grad have the same shape, but each its own strides.
template <typename T>
void channel_gradient(const T* x, const ChannelLayout& from,
                      const MomentGradients<accumulate_t<T>>& tables, T* grad,
                      const ChannelLayout& to) {
  const bool rows = from.side_by_side() || (samples_are_rows(from) && samples_are_rows(to));
  if (!rows) return gradient_of_planes(x, from, tables, grad, to);
  for_rows(from, [&](int64_t first, const ChannelRows& in) {
    const int64_t positions = from.side_by_side() ? in.repeats() : 1;
    gradient_of_rows(x + first * from.sample_stride, in, tables, grad + first * to.sample_stride,
                     positions * to.sample_stride);
  });
}

}  // namespace gencond
