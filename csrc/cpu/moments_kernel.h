// The inner loops of class_moments on raw pointers, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "cpu/accumulate.h"
#include "cpu/isa_table.h"

namespace gencond {

template <typename T>
struct MomentsKernels {
  using A = accumulate_t<T>;

  // mean[j] and m2[j] of x[order[i] * stride + j] - shift[j] over i = 0 ... rows - 1, for every
  // j = 0 ... columns - 1; rows >= 1.
  void (*forward)(const T* x, int64_t stride, const int64_t* order, int64_t rows, int64_t columns,
                  const A* shift, A* mean, A* m2);

  // grad[j] = grad_mean[j] / count + 2 grad_m2[j] (x[j] - mean[j]) of one row.
  void (*backward)(const T* x, const A* grad_mean, const A* grad_m2, const A* mean, A count,
                   int64_t columns, T* grad);
};

using MomentsTable = ByType<MomentsKernels>;

GENCOND_DECLARE_TABLE(MomentsTable, gencond_moments_table)

}  // namespace gencond
