// Chan's update of running moments by a group of vectors that lie in registers, so that the mean of
// the group is known before its deviations are squared. Only for files that are compiled once per
// instruction set, like cpu/vectors.h.
#pragma once

#include <cstdint>

#include "cpu/vectors.h"

namespace gencond {
namespace {

// Weights of Chan's update when `rows` new rows join `seen` old ones.
template <typename V>
struct Weights {
  Weights(int64_t seen, int rows)
      : share(static_cast<double>(rows) / (seen + rows)),
        between(static_cast<double>(rows) * seen / (seen + rows)) {}
  V share, between;
};

template <typename V, int ROWS>
inline void update(V (&x)[ROWS], const Weights<V>& weights, V& mean, V& m2) {
  const V group_mean = tree_sum<V, ROWS>(x) * V(1.0 / ROWS);
  V squares[2] = {V(0), V(0)};
  for (int r = 0; r < ROWS; ++r) {
    const V deviation = x[r] - group_mean;
    squares[r & 1] = at::vec::fmadd(deviation, deviation, squares[r & 1]);
  }
  const V delta = group_mean - mean;
  mean = at::vec::fmadd(delta, weights.share, mean);
  m2 = m2 + at::vec::fmadd(delta * weights.between, delta, squares[0] + squares[1]);
}

}  // namespace
}  // namespace gencond
