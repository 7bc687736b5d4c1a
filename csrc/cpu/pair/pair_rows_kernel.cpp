// Rows of operands and of gradients. Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and AVX512; all
// but the last function is internal.
#include "cpu/pair/pair_kernel.h"
#include "cpu/vectors.h"

namespace gencond {
namespace {

using V = Vec<float>;
constexpr int64_t LANES = V::size();

// Calls f(j, count) for every vector of a row. count is a constant for full vectors, and an int for
// the last one if it is not full.
template <typename F>
inline void for_vectors(int64_t columns, const F& f) {
  int64_t j = 0;
  for (; j + LANES <= columns; j += LANES) f(j, std::integral_constant<int, LANES>());
  if (j < columns) f(j, static_cast<int>(columns - j));
}

template <typename T, typename Count>
inline V load(const T* p, Count count) {
  if constexpr (std::is_same_v<Count, int>) return load_as<T>(p, count);
  else return load_as<T>(p);
}

template <typename T>
float copy(const void* x, int64_t row, int64_t ahead, int64_t columns, float* a,
           const float* target) {
  const T *from = static_cast<const T*>(x) + row, *next = static_cast<const T*>(x) + ahead;
  V squares(0);
  for_vectors(columns, [&](int64_t j, auto count) {
    __builtin_prefetch(next + j);
    __builtin_prefetch(target + j, 1);
    const V value = load(from + j, count);
    value.store(a + j);
    squares = at::vec::fmadd(value, value, squares);
  });
  for (int64_t j = (columns + LANES - 1) / LANES * LANES; j < padded(columns); j += LANES) {
    V(0).store(a + j);
  }
  return sum_lanes(squares);
}

template <typename T>
bool not_finite(const void* x, int64_t row, int64_t columns) {
  const T* from = static_cast<const T*>(x) + row;
  V found(0);
  for_vectors(columns, [&](int64_t j, auto count) {
    const V value = load(from + j, count);
    const V nothing = value - value;  // NaN unless the value is finite
    found = found | (nothing != nothing);
  });
  return any(found);
}

void mean(const float* a, int64_t ld, const float* scale, int64_t rows, int64_t columns,
          float* mean) {
  const V share(1.0f / static_cast<float>(rows));
  for (int64_t j = 0; j < columns; j += LANES) {
    V sum(0), squares(0);
    for (int64_t i = 0; i < rows; ++i) {
      const V value = V::loadu(a + i * ld + j) * V(scale[i]);
      sum = sum + value;
      squares = at::vec::fmadd(value, value, squares);
    }
    const V mean_j = sum * share;
    V::blendv(V(0), mean_j, mean_j * sum > V(0.5f) * squares).store(mean + j);
  }
}

float centre(float* a, float scale, const float* shift, int64_t columns) {
  V squares(0);
  for (int64_t j = 0; j < columns; j += LANES) {
    // one rounding, so that near-duplicates far from the origin keep their digits
    const V value = at::vec::fmsub(V::loadu(a + j), V(scale), V::loadu(shift + j));
    value.store(a + j);
    squares = at::vec::fmadd(value, value, squares);
  }
  return sum_lanes(squares);
}

template <typename Count>
inline void store(V value, float* p, Count count) {
  if constexpr (std::is_same_v<Count, int>) value.store(p, count);
  else value.store(p);
}

void add_difference(float* g, const float* b, const float* a, float weight, int64_t columns) {
  for_vectors(columns, [&](int64_t j, auto count) {
    const V difference = V::loadu(b + j) - V::loadu(a + j);
    store(at::vec::fmadd(V(weight), difference, load(g + j, count)), g + j, count);
  });
}

void subtract(float* g, const float* a, float weight, int64_t columns) {
  for_vectors(columns, [&](int64_t j, auto count) {
    store(at::vec::fmadd(V(-weight), V::loadu(a + j), load(g + j, count)), g + j, count);
  });
}

void project(float* g, const float* a, const float* shift, float scale, int64_t columns) {
  const auto unit = [&](int64_t j) { return V::loadu(a + j) + V::loadu(shift + j); };
  V product(0);
  for_vectors(columns, [&](int64_t j, auto count) {
    product = at::vec::fmadd(unit(j), load(g + j, count), product);
  });
  const V along(-sum_lanes(product));
  for_vectors(columns, [&](int64_t j, auto count) {
    store(V(scale) * at::vec::fmadd(along, unit(j), load(g + j, count)), g + j, count);
  });
}

template <typename T>
constexpr RowReader reader() {
  return {&copy<T>, &not_finite<T>};
}

const RowKernels table{reader<float>(), reader<c10::Half>(), reader<c10::BFloat16>(),
                       &mean,           &centre,             &add_difference,
                       &subtract,       &project};

}  // namespace

GENCOND_EXPORT_TABLE(RowKernels, gencond_pair_rows, table)

}  // namespace gencond
