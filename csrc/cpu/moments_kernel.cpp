// Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and AVX512. Everything but the last function has
// internal linkage: an inline function shared with other files could end up linked in a version
// that the machine cannot run.
#include "cpu/moments_kernel.h"

#include "cpu/group_update.h"
#include "cpu/vectors.h"

namespace gencond {
namespace {

// Rows taken together: their values stay in registers, so their mean is known before their
// deviations are squared, and the running moments are read and written once for all of them.
constexpr int GROUP = 8;

// Adds row[0 ... ROWS - 1] to the running moments of `seen` rows. row[ROWS ... 2 ROWS - 1] come
// next: rows lie anywhere in memory, so the hardware cannot know them.
template <typename T, int ROWS>
inline void add_rows(const T* const* row, int64_t seen, int64_t columns,
                     const accumulate_t<T>* shift, accumulate_t<T>* mean, accumulate_t<T>* m2) {
  using A = accumulate_t<T>;
  using V = Vec<A>;
  const Weights<V> weights(seen, ROWS);
  V x[ROWS];
  int64_t j = 0;
  for (; j + V::size() <= columns; j += V::size()) {
    const V origin = V::loadu(shift + j);
    for (int r = 0; r < ROWS; ++r) {
      __builtin_prefetch(row[ROWS + r] + j);
      x[r] = load_as<T>(row[r] + j) - origin;
    }
    V mean_j = V::loadu(mean + j), m2_j = V::loadu(m2 + j);
    update<V, ROWS>(x, weights, mean_j, m2_j);
    mean_j.store(mean + j);
    m2_j.store(m2 + j);
  }
  if (const int rest = static_cast<int>(columns - j); rest > 0) {
    const V origin = load_as<A>(shift + j, rest);
    for (int r = 0; r < ROWS; ++r) x[r] = load_as<T>(row[r] + j, rest) - origin;
    V mean_j = load_as<A>(mean + j, rest), m2_j = load_as<A>(m2 + j, rest);
    update<V, ROWS>(x, weights, mean_j, m2_j);
    mean_j.store(mean + j, rest);
    m2_j.store(m2 + j, rest);
  }
}

template <typename T>
void forward(const T* x, int64_t stride, const int64_t* order, int64_t rows, int64_t columns,
             const accumulate_t<T>* shift, accumulate_t<T>* mean, accumulate_t<T>* m2) {
  for (int64_t j = 0; j < columns; ++j) mean[j] = m2[j] = 0;
  int64_t seen = 0;
  const T* row[2 * GROUP];
  const auto next_rows = [&] {
    for (int r = 0; r < 2 * GROUP; ++r) {
      row[r] = x + order[seen + r < rows ? seen + r : rows - 1] * stride;
    }
    return row;
  };
  for (; rows - seen >= GROUP; seen += GROUP) {
    add_rows<T, GROUP>(next_rows(), seen, columns, shift, mean, m2);
  }
  if (rows - seen >= 4) {
    add_rows<T, 4>(next_rows(), seen, columns, shift, mean, m2);
    seen += 4;
  }
  if (rows - seen >= 2) {
    add_rows<T, 2>(next_rows(), seen, columns, shift, mean, m2);
    seen += 2;
  }
  if (rows - seen == 1) add_rows<T, 1>(next_rows(), seen, columns, shift, mean, m2);
}

template <typename V>
inline V gradient(V x, V grad_mean, V grad_m2, V mean, V inverse) {
  return at::vec::fmadd(grad_m2 + grad_m2, x - mean, grad_mean * inverse);
}

template <typename T>
void backward(const T* x, const accumulate_t<T>* grad_mean, const accumulate_t<T>* grad_m2,
              const accumulate_t<T>* mean, accumulate_t<T> count, int64_t columns, T* grad) {
  using A = accumulate_t<T>;
  using V = Vec<A>;
  constexpr int LANES = V::size();
  const V inverse(A(1) / count);
  A lanes[LANES];
  for (int64_t j = 0; j < columns; j += LANES) {
    if (const int rest = static_cast<int>(columns - j); rest < LANES) {
      gradient<V>(load_as<T>(x + j, rest), load_as<A>(grad_mean + j, rest),
                  load_as<A>(grad_m2 + j, rest), load_as<A>(mean + j, rest), inverse)
          .store(lanes);
      for (int i = 0; i < rest; ++i) grad[j + i] = static_cast<T>(lanes[i]);
      return;
    }
    const V out = gradient<V>(load_as<T>(x + j), V::loadu(grad_mean + j), V::loadu(grad_m2 + j),
                              V::loadu(mean + j), inverse);
    store_as<T>(out, grad + j);
  }
}

template <typename T>
constexpr MomentsKernels<T> kernels() {
  return {&forward<T>, &backward<T>};
}

const MomentsTable table{kernels<float>(), kernels<double>(), kernels<c10::Half>(),
                         kernels<c10::BFloat16>()};

}  // namespace

GENCOND_EXPORT_TABLE(MomentsTable, gencond_moments_table, table)

}  // namespace gencond
