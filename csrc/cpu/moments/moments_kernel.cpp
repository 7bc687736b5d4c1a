// Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and AVX512. Everything but the last function has
// internal linkage: an inline function shared with other files could end up linked in a version
// that the machine cannot run.
#include "cpu/moments/moments_kernel.h"

#include "cpu/group_update.h"
#include "cpu/vectors.h"

namespace gencond {
namespace {

// Rows taken together. Their values stay in registers, so their mean is known before their
// deviations are squared, and the running moments are read and written once for the group.
constexpr int GROUP = 8;

// Adds row[0 ... ROWS - 1] to the running moments of `seen` rows, and fetches the next ones,
// row[ROWS ... ROWS + GROUP - 1]: rows lie anywhere in memory, so the hardware cannot guess them.
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
    for (int r = 0; r < GROUP; ++r) __builtin_prefetch(row[ROWS + r] + j);
    for (int r = 0; r < ROWS; ++r) x[r] = load_as<T>(row[r] + j) - origin;
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

// Adds the last rows of a class, at most GROUP - 1, in one step: many classes have no others.
template <typename T, int ROWS = GROUP - 1>
inline void add_rest(int64_t rows, const T* const* row, int64_t seen, int64_t columns,
                     const accumulate_t<T>* shift, accumulate_t<T>* mean, accumulate_t<T>* m2) {
  if (rows == ROWS) {
    add_rows<T, ROWS>(row, seen, columns, shift, mean, m2);
  } else if constexpr (ROWS > 1) {
    add_rest<T, ROWS - 1>(rows, row, seen, columns, shift, mean, m2);
  }
}

template <typename T>
void forward(const T* x, int64_t stride, const int64_t* order, int64_t rows, int64_t known,
             int64_t columns, const accumulate_t<T>* shift, accumulate_t<T>* mean,
             accumulate_t<T>* m2) {
  for (int64_t j = 0; j < columns; ++j) mean[j] = m2[j] = 0;
  const T* row[2 * GROUP];
  for (int64_t seen = 0; seen < rows; seen += GROUP) {
    for (int r = 0; r < 2 * GROUP; ++r) {
      row[r] = x + order[seen + r < known ? seen + r : known - 1] * stride;
    }
    if (rows - seen >= GROUP) add_rows<T, GROUP>(row, seen, columns, shift, mean, m2);
    else add_rest<T>(rows - seen, row, seen, columns, shift, mean, m2);
  }
}

template <typename T>
void load_shift(const T* row, int64_t columns, accumulate_t<T>* shift) {
  using V = Vec<accumulate_t<T>>;
  const auto finite = [](V x) { return V::blendv(V(0), x, x - x == V(0)); };
  int64_t j = 0;
  for (; j + V::size() <= columns; j += V::size()) finite(load_as<T>(row + j)).store(shift + j);
  if (const int rest = static_cast<int>(columns - j); rest > 0) {
    finite(load_as<T>(row + j, rest)).store(shift + j, rest);
  }
}

// Plain loops, which the compiler turns into vectors of float64 by itself.
template <typename A, typename P>
void fold(const PartialMoments<A>& parts, const A* shift, int64_t seen, int64_t columns, P* mean,
          P* m2) {
  if (seen == 0 && parts.rows <= parts.part_rows) {  // nothing to merge, as for most classes
    using Wide = std::common_type_t<A, P>;
    for (int64_t j = 0; j < columns; ++j) {
      mean[j] = static_cast<P>(Wide(parts.mean[j]) + Wide(shift[j]));
      m2[j] = static_cast<P>(parts.m2[j]);
    }
    return;
  }
  constexpr int64_t STRIP = 128;
  for (int64_t left = 0; left < columns; left += STRIP) {
    const int64_t width = columns - left < STRIP ? columns - left : STRIP;
    const A *part_mean = parts.mean + left, *part_m2 = parts.m2 + left;
    double total_mean[STRIP], total_m2[STRIP];
    for (int64_t j = 0; j < width; ++j) {
      total_mean[j] = part_mean[j];
      total_m2[j] = part_m2[j];
    }
    for (int64_t before = parts.part_rows; before < parts.rows; before += parts.part_rows) {
      part_mean += parts.stride;
      part_m2 += parts.stride;
      const int64_t left_over = parts.rows - before;
      const int64_t rows = left_over < parts.part_rows ? left_over : parts.part_rows;
      const double share = static_cast<double>(rows) / (before + rows), between = share * before;
      for (int64_t j = 0; j < width; ++j) {
        const double delta = part_mean[j] - total_mean[j];
        total_mean[j] += delta * share;
        total_m2[j] += part_m2[j] + delta * between * delta;
      }
    }
    if (seen == 0) {
      for (int64_t j = 0; j < width; ++j) {
        mean[left + j] = static_cast<P>(total_mean[j] + shift[left + j]);
        m2[left + j] = static_cast<P>(total_m2[j]);
      }
    } else {
      const double share = static_cast<double>(parts.rows) / (seen + parts.rows);
      const double between = share * seen;
      for (int64_t j = 0; j < width; ++j) {
        const double old_mean = mean[left + j], old_m2 = m2[left + j];
        const double delta = total_mean[j] + (shift[left + j] - old_mean);
        mean[left + j] = static_cast<P>(old_mean + delta * share);
        m2[left + j] = static_cast<P>(old_m2 + total_m2[j] + delta * between * delta);
      }
    }
  }
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
  using A = accumulate_t<T>;
  return {&load_shift<T>, &forward<T>, &fold<A, float>, &fold<A, double>, &backward<T>};
}

const MomentsTable table{kernels<float>(), kernels<double>(), kernels<c10::Half>(),
                         kernels<c10::BFloat16>()};

}  // namespace

GENCOND_EXPORT_TABLE(MomentsTable, gencond_moments_table, table)

}  // namespace gencond
