// Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and AVX512; all but the last function is internal.
#include "cpu/moments/matching_kernel.h"

#include "cpu/vectors.h"

namespace gencond {
namespace {

// How many values a lane adds up before its sum goes into float64.
constexpr int64_t LANE_VALUES = 64;

template <typename A>
struct Derivatives {
  Vec<A> mean, m2;
};

template <typename A>
inline Derivatives<A> add_columns(const MatchWeights<A>& weights, Vec<A> mean, Vec<A> m2,
                                  Vec<A> target_mean, Vec<A> target_m2, Vec<A>& loss) {
  using V = Vec<A>;
  const V zero(0), delta = mean - target_mean, weighted = V(weights.mean) * delta;
  loss = at::vec::fmadd(weighted, delta, loss);
  Derivatives<A> out{weighted + weighted, V(-weights.draw)};
  if (weights.draw != 0) loss = loss + out.m2 * m2;
  if (weights.std == 0) return out;

  const V freedom(weights.inverse_freedom), std_weight(weights.std);
  const V sigma = (m2 * freedom).sqrt();
  const V target = (target_m2 * V(weights.target_inverse_freedom)).sqrt();
  const V gap = sigma - target;
  loss = at::vec::fmadd(std_weight * gap, gap, loss);
  const V slope = V::blendv(gap / sigma, zero, sigma == zero);
  out.m2 = at::vec::fmadd(std_weight * freedom, slope, out.m2);
  return out;
}

template <typename A>
double match(const MatchWeights<A>& weights, int64_t columns, const A* mean, const A* target_mean,
             const A* target_m2, A* m2, A* grad_mean) {
  using V = Vec<A>;
  constexpr int64_t LANES = V::size();
  double total = 0;
  for (int64_t left = 0; left < columns; left += LANE_VALUES * LANES) {
    const int64_t behind = left + LANE_VALUES * LANES;
    const int64_t end = behind < columns ? behind : columns;
    V loss(0);
    int64_t j = left;
    for (; j + LANES <= end; j += LANES) {
      const auto grad =
          add_columns<A>(weights, V::loadu(mean + j), V::loadu(m2 + j), V::loadu(target_mean + j),
                         V::loadu(target_m2 + j), loss);
      grad.mean.store(grad_mean + j);
      grad.m2.store(m2 + j);
    }
    if (const int rest = static_cast<int>(end - j); rest > 0) {
      const auto grad = add_columns<A>(weights, load_as<A>(mean + j, rest),
                                       load_as<A>(m2 + j, rest), load_as<A>(target_mean + j, rest),
                                       load_as<A>(target_m2 + j, rest), loss);
      grad.mean.store(grad_mean + j, rest);
      grad.m2.store(m2 + j, rest);
    }
    A lanes[LANES];
    loss.store(lanes);
    for (int64_t i = 0; i < LANES; ++i) total += lanes[i];
  }
  return total;
}

const MatchingTable table{&match<float>, &match<double>};

}  // namespace

GENCOND_EXPORT_TABLE(MatchingTable, gencond_matching_table, table)

}  // namespace gencond
