// From products to distances, losses and weights. Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and
// AVX512; all but the last function is internal.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "cpu/pair/pair_kernel.h"
#include "cpu/vectors.h"

namespace gencond {
namespace {

using V = Vec<float>;
using at::vec::fmadd;
using at::vec::maximum;
constexpr int64_t LANES = V::size();
constexpr float INFINITE = std::numeric_limits<float>::infinity();

// exp(x) for x <= 0 to about one unit in the last place; 0 below the logarithm of the least normal
// number. x = n log 2 + r, and the polynomial is a minimax fit of (exp(r) - 1 - r) / r^2 on
// |r| <= log(2) / 2.
inline V exp_negative(V x) {
  const V least(-87.3f), rounder(12582912.0f);  // 1.5 * 2^23: adding it leaves an integer
  const V shifted = fmadd(maximum(x, least), V(1.44269504f), rounder);
  const V n = shifted - rounder;
  V r = fmadd(n, V(-0.693359375f), maximum(x, least));
  r = fmadd(n, V(2.12194440e-4f), r);
  V p = fmadd(V(0.0013814467f), r, V(0.0083687808f));
  p = fmadd(p, r, V(0.041668393f));
  p = fmadd(p, r, V(0.1666652f));
  p = fmadd(p, r, V(0.49999994f));
  p = fmadd(p * r, r, r) + V(1);
  // times 2^n: adds n, the last bits of `shifted`, to the exponent
  const auto exponent = at::vec::cast<int32_t>(shifted) << Vec<int32_t>(23);
  const V result = at::vec::cast<float>(at::vec::cast<int32_t>(p) + exponent);
  return V::blendv(result, V(0), x < least);
}

// The magnitude, with the minus sign that d2 has for a near pair.
inline V with_sign_of(V magnitude, V d2) {
  return V::blendv(magnitude, magnitude.neg(), d2 < V(0));
}

float direct_distance(const float* a, const float* b, int64_t columns) {
  V sum(0);
  for (int64_t j = 0; j < columns; j += LANES) {
    const V difference = V::loadu(a + j) - V::loadu(b + j);
    sum = fmadd(difference, difference, sum);
  }
  return sum_lanes(sum);
}

bool distances(const PairTile& tile, const float* a, const float* b, int64_t ld, int64_t columns,
               const float* norm_a, const float* norm_b) {
  bool found = false;
  for (int64_t i = 0; i < tile.rows; ++i) {
    float* row = tile.data + i * tile.ld;
    for (int64_t j = 0; j < tile.columns; j += LANES) {
      const V norms = V(norm_a[i]) + V::loadu(norm_b + j);
      const V d2 = maximum(fmadd(V(-2), V::loadu(row + j), norms), V(0));
      d2.store(row + j);
      const V near = d2 < V(NEAR) * norms;
      if (!any(near)) continue;
      found = true;
      float lanes[LANES];
      near.store(lanes);
      for (int64_t k = 0; k < LANES; ++k) {
        if (lanes[k] == 0) continue;
        const float direct = direct_distance(a + i * ld, b + (j + k) * ld, columns);
        row[j + k] = -std::max(direct, FLT_MIN);  // the sign of a zero would be lost
      }
    }
  }
  return found;
}

// Replaces each vector v of the tile by f(v, sum), and returns the total of what f adds to sum.
template <typename F>
inline double transform_tile(const PairTile& tile, const F& f) {
  double total = 0;
  for (int64_t i = 0; i < tile.rows; ++i) {
    float* row = tile.data + i * tile.ld;
    V sum(0);
    for (int64_t j = 0; j < tile.columns; j += LANES) f(V::loadu(row + j), sum).store(row + j);
    total += sum_lanes(sum);
  }
  return total;
}

double rbf(const PairTile& tile, float factor, float scale) {
  return transform_tile(tile, [=](V d2, V& sum) {
    const V value = exp_negative(V(-factor) * d2.abs());
    sum = sum + value;
    return with_sign_of(V(scale) * value, d2);
  });
}

double hinge(const PairTile& tile, float margin, float scale) {
  return transform_tile(tile, [=](V d2, V& sum) {
    const V distance = d2.abs().sqrt();
    const V lack = maximum(V(margin) - distance, V(0));
    sum = fmadd(lack, lack, sum);
    const V weight = V(scale) * lack / distance;
    return with_sign_of(V::blendv(V(0), weight, distance > V(0)), d2);
  });
}

void infonce(const PairTile& tile, float factor, float scale, const float* deficit_a,
             const float* deficit_b, const float* top_a, const float* top_b,
             const float* log_total_a, const float* log_total_b) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    float* row = tile.data + i * tile.ld;
    for (int64_t j = 0; j < tile.columns; j += LANES) {
      const V d2 = V::loadu(row + j), magnitude = d2.abs();
      const V from_a = V::loadu(deficit_b + j) - magnitude - V(top_a[i]);
      const V from_b = V(deficit_a[i]) - magnitude - V::loadu(top_b + j);
      const V p = exp_negative(fmadd(V(factor), from_a, V(-log_total_a[i]))) +
                  exp_negative(fmadd(V(factor), from_b, V::loadu(log_total_b + j).neg()));
      with_sign_of(V(scale) * p, d2).store(row + j);
    }
  }
}

inline float top_of(const float* d2, const float* deficit, int64_t columns) {
  V top(-INFINITE);
  for (int64_t j = 0; j < columns; j += LANES) {
    top = maximum(top, V::loadu(deficit + j) - V::loadu(d2 + j).abs());
  }
  return max_lane(top);
}

void soft_top(const float* d2, const float* deficit, int64_t columns, float factor, float* top,
              double* total) {
  const float found = top_of(d2, deficit, columns);
  if (found == -INFINITE) return;
  double sum = 0;
  for (int64_t from = 0; from < columns; from += TILE) {
    const int64_t end = std::min(from + TILE, columns);
    V part(0);
    for (int64_t j = from; j < end; j += LANES) {
      const V value = V::loadu(deficit + j) - V::loadu(d2 + j).abs();
      part = part + exp_negative(V(factor) * (value - V(found)));
    }
    sum += sum_lanes(part);
  }
  const double old_top = *top, new_top = std::max(*top, found);
  *total = *total * std::exp(factor * (old_top - new_top)) +
           sum * std::exp(factor * (found - new_top));
  *top = static_cast<float>(new_top);
}

void hard_top(const float* d2, const float* deficit, int64_t columns, int64_t first, float* top,
              int64_t* which) {
  const float found = top_of(d2, deficit, columns);
  if (!(found > *top)) return;
  int64_t j = 0;
  while (deficit[j] - std::fabs(d2[j]) != found) ++j;
  *top = found;
  *which = first + j;
}

int64_t find_negative(const float* w, int64_t from, int64_t columns) {
  for (int64_t j = from; j < columns;) {
    if (j % LANES == 0 && !any(V::loadu(w + j) < V(0))) {
      j += LANES;
    } else if (w[j] < 0) {
      return j;
    } else {
      ++j;
    }
  }
  return columns;
}

void clear_negative(const PairTile& tile) {
  transform_tile(tile, [](V w, V&) { return maximum(w, V(0)); });
}

void row_sums(const PairTile& tile, double* sums) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    V sum(0);
    for (int64_t j = 0; j < tile.columns; j += LANES) {
      sum = sum + V::loadu(tile.data + i * tile.ld + j);
    }
    sums[i] += sum_lanes(sum);
  }
}

void column_sums(const PairTile& tile, double* sums) {
  for (int64_t j = 0; j < tile.columns; j += LANES) {
    for (int64_t from = 0; from < tile.rows; from += TILE) {
      const int64_t end = std::min(from + TILE, tile.rows);
      V sum(0);
      for (int64_t i = from; i < end; ++i) sum = sum + V::loadu(tile.data + i * tile.ld + j);
      float lanes[LANES];
      sum.store(lanes);
      for (int64_t k = 0; k < LANES; ++k) sums[j + k] += lanes[k];
    }
  }
}

const WeightKernels table{&distances, &rbf,           &hinge,          &infonce,  &soft_top,
                          &hard_top,  &find_negative, &clear_negative, &row_sums, &column_sums};

}  // namespace

GENCOND_EXPORT_TABLE(WeightKernels, gencond_pair_weights, table)

}  // namespace gencond
