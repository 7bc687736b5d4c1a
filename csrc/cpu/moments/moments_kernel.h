// The inner loops of class_moments on raw pointers, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "cpu/accumulate.h"
#include "cpu/isa_table.h"

namespace gencond {

// The moments of `rows` rows of one class, less a shift, in parts of `part_rows` rows each (the
// last may be shorter). The moments of consecutive parts lie `stride` numbers apart.
template <typename A>
struct PartialMoments {
  const A *mean, *m2;
  int64_t stride;
  int64_t rows, part_rows;
};

// Merges the parts, and the moments of `seen` earlier rows that mean and m2 hold, by Chan's update
// in float64. If seen is 0, mean and m2 are not read. The parts' means lack the shift; the result's
// do not.
template <typename A, typename P>
using Fold = void (*)(const PartialMoments<A>& parts, const A* shift, int64_t seen, int64_t columns,
                      P* mean, P* m2);

template <typename T>
struct MomentsKernels {
  using A = accumulate_t<T>;

  // What is subtracted from the rows of a class: its first row, 0 where that is not finite.
  void (*shift)(const T* row, int64_t columns, A* shift);

  // mean[j] and m2[j] of x[order[i] * stride + j] - shift[j] over i = 0 ... rows - 1, for every
  // j = 0 ... columns - 1; rows >= 1. order has `known` >= rows entries; the further ones tell what
  // to fetch next.
  void (*forward)(const T* x, int64_t stride, const int64_t* order, int64_t rows, int64_t known,
                  int64_t columns, const A* shift, A* mean, A* m2);

  Fold<A, float> fold_f32;
  Fold<A, double> fold_f64;

  template <typename P>
  Fold<A, P> fold() const {
    if constexpr (std::is_same_v<P, float>) return fold_f32;
    else return fold_f64;
  }

  // grad[j] = grad_mean[j] / count + 2 grad_m2[j] (x[j] - mean[j]) of one row.
  void (*backward)(const T* x, const A* grad_mean, const A* grad_m2, const A* mean, A count,
                   int64_t columns, T* grad);
};

using MomentsTable = ByType<MomentsKernels>;

GENCOND_DECLARE_TABLE(MomentsTable, gencond_moments_table)

}  // namespace gencond
