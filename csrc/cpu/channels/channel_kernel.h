// The inner loops of channel_moments on raw pointers, compiled once per instruction set. They take
// contiguous planes; channels that lie side by side go through cpu/moments/moments_kernel.h.
#pragma once

#include <cstdint>

#include "cpu/accumulate.h"
#include "cpu/isa_table.h"

namespace gencond {

template <typename T>
struct ChannelKernels {
  using A = accumulate_t<T>;

  // Mean and m2 of x[n * stride + i] - shift over n = 0 ... planes - 1 and i = 0 ... size - 1;
  // both at least 1.
  void (*forward)(const T* x, int64_t planes, int64_t stride, int64_t size, A shift, double* mean,
                  double* m2);

  // grad[i] = grad_mean / count + 2 grad_m2 (x[i] - mean) for i = 0 ... size - 1.
  void (*backward)(const T* x, int64_t size, A grad_mean, A grad_m2, A mean, A count, T* grad);
};

using ChannelTable = ByType<ChannelKernels>;

GENCOND_DECLARE_TABLE(ChannelTable, gencond_channel_table)

}  // namespace gencond
