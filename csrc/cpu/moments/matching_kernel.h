// The inner loop of moment_matching on raw pointers, compiled once per instruction set.
#pragma once

#include <cstdint>

#include "cpu/isa_table.h"

namespace gencond {

// The weights of the terms of one class; 0 for a term that it does not have.
template <typename A>
struct MatchWeights {
  A mean;  // of the squared distance of the means
  A draw;  // of the sum of m2, which is subtracted
  A std;   // of the squared distance of the deviations
  A inverse_freedom, target_inverse_freedom;  // 1 / (count - 1)
};

// Returns the loss of one class, and replaces m2 by the derivative by m2.
template <typename A>
using Match = double (*)(const MatchWeights<A>& weights, int64_t columns, const A* mean,
                         const A* target_mean, const A* target_m2, A* m2, A* grad_mean);

struct MatchingTable {
  Match<float> f32;
  Match<double> f64;

  template <typename A>
  Match<A> get() const {
    if constexpr (sizeof(A) == sizeof(float)) return f32;
    else return f64;
  }
};

GENCOND_DECLARE_TABLE(MatchingTable, gencond_matching_table)

}  // namespace gencond
