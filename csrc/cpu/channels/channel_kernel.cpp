// Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and AVX512; everything but the last function has
// internal linkage, see moments_kernel.cpp.
#include "cpu/channels/channel_kernel.h"

#include "cpu/group_update.h"
#include "cpu/vectors.h"

namespace gencond {
namespace {

constexpr int GROUP = 8;  // vectors taken together, see group_update.h

// How many vectors are summed before the moments of their lanes are merged in double.
constexpr int64_t MOST_VECTORS = 256;

// How far ahead to fetch. The hardware finds the next elements of a long plane by itself, but not
// the next short plane.
template <typename T>
int64_t fetch_ahead(int64_t size, int64_t stride) {
  constexpr int64_t SHORT = 16384 / sizeof(T), AHEAD = 4096 / sizeof(T);
  return size <= SHORT ? stride : AHEAD;
}

// Moments in double, merged from the lanes of vectors of moments.
struct Total {
  int64_t count = 0;
  double mean = 0, m2 = 0;

  // Adds lanes that hold the moments of `seen` elements each.
  template <typename A>
  void merge(const A* lane_mean, const A* lane_m2, int lanes, int64_t seen) {
    double sum = 0, within = 0, between = 0;
    for (int i = 0; i < lanes; ++i) sum += lane_mean[i];
    const double centre = sum / lanes;
    for (int i = 0; i < lanes; ++i) {
      const double deviation = lane_mean[i] - centre;
      between += deviation * deviation;
      within += lane_m2[i];
    }
    const auto added = static_cast<double>(lanes * seen);
    const double share = added / (count + added), delta = centre - mean;
    mean += delta * share;
    m2 += within + seen * between + delta * delta * share * count;
    count += lanes * seen;
  }
};

// Running moments of every lane; vectors are added in groups.
template <typename A>
struct Lanes {
  using V = Vec<A>;

  V mean = V(0), m2 = V(0);
  int64_t seen = 0;

  template <int ROWS>
  inline void add(V (&x)[ROWS]) {
    update<V, ROWS>(x, Weights<V>(seen, ROWS), mean, m2);
    seen += ROWS;
  }

  void flush(int lanes, Total& total) {
    if (seen == 0) return;
    A means[V::size()], squares[V::size()];
    mean.store(means);
    m2.store(squares);
    total.merge(means, squares, lanes, seen);
    *this = Lanes();
  }
};

// Adds ROWS vectors, and fetches those that lie `ahead` elements further.
template <typename T, int ROWS>
inline void add_vectors(const T* x, int64_t ahead, Vec<accumulate_t<T>> origin,
                        Lanes<accumulate_t<T>>& lanes) {
  using V = Vec<accumulate_t<T>>;
  V group[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    __builtin_prefetch(x + ahead + r * V::size());
    group[r] = load_as<T>(x + r * V::size()) - origin;
  }
  lanes.template add<ROWS>(group);
}

template <typename T>
void forward(const T* x, int64_t planes, int64_t stride, int64_t size, accumulate_t<T> shift,
             double* mean, double* m2) {
  using A = accumulate_t<T>;
  using V = Vec<A>;
  constexpr int LANES = V::size();
  const int rest = static_cast<int>(size % LANES);
  const int64_t whole = size - rest;
  const V origin(shift);
  const int64_t ahead = fetch_ahead<T>(size, stride);
  Total total;
  Lanes<A> body, tail;  // the tail of a plane fills `rest` lanes only
  for (int64_t n = 0; n < planes; ++n, x += stride) {
    int64_t i = 0;
    for (; whole - i >= GROUP * LANES; i += GROUP * LANES) {
      add_vectors<T, GROUP>(x + i, ahead, origin, body);
      if (body.seen >= MOST_VECTORS) body.flush(LANES, total);
    }
    for (; whole - i >= 2 * LANES; i += 2 * LANES) add_vectors<T, 2>(x + i, ahead, origin, body);
    if (i < whole) add_vectors<T, 1>(x + i, ahead, origin, body);
    if (rest > 0) {
      V last[1] = {load_as<T>(x + whole, rest) - origin};
      tail.template add<1>(last);
    }
    if (body.seen >= MOST_VECTORS) body.flush(LANES, total);
    if (tail.seen >= MOST_VECTORS) tail.flush(rest, total);
  }
  body.flush(LANES, total);
  tail.flush(rest, total);
  *mean = total.mean;
  *m2 = total.m2;
}

template <typename T>
void backward(const T* x, int64_t size, accumulate_t<T> grad_mean, accumulate_t<T> grad_m2,
              accumulate_t<T> mean, accumulate_t<T> count, T* grad) {
  using A = accumulate_t<T>;
  using V = Vec<A>;
  constexpr int LANES = V::size();
  const V slope(grad_m2 + grad_m2), intercept(grad_mean / count), origin(mean);
  int64_t i = 0;
  for (; i + LANES <= size; i += LANES) {
    store_as<T>(at::vec::fmadd(slope, load_as<T>(x + i) - origin, intercept), grad + i);
  }
  if (const int rest = static_cast<int>(size - i); rest > 0) {
    A lanes[LANES];
    at::vec::fmadd(slope, load_as<T>(x + i, rest) - origin, intercept).store(lanes);
    for (int k = 0; k < rest; ++k) grad[i + k] = static_cast<T>(lanes[k]);
  }
}

template <typename T>
constexpr ChannelKernels<T> kernels() {
  return {&forward<T>, &backward<T>};
}

const ChannelTable table{kernels<float>(), kernels<double>(), kernels<c10::Half>(),
                         kernels<c10::BFloat16>()};

}  // namespace

GENCOND_EXPORT_TABLE(ChannelTable, gencond_channel_table, table)

}  // namespace gencond
