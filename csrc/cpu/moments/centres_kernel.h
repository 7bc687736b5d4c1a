// The inner loop of class_centres on raw pointers, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "cpu/accumulate.h"
#include "cpu/isa_table.h"

namespace gencond {

template <typename T>
struct CentresKernels {
  using A = accumulate_t<T>;

  // sum[j] of x[order[i] * stride + j] - shift[j] over i = 0 ... rows - 1, for j < columns.
  void (*sum)(const T* x, int64_t stride, const int64_t* order, int64_t rows, int64_t columns,
              const A* shift, A* sum);
};

using CentresTable = ByType<CentresKernels>;

GENCOND_DECLARE_TABLE(CentresTable, gencond_centres_table)

}  // namespace gencond
