// Vector helpers of the kernels, only for files that are compiled once per instruction set. All of
// them have internal linkage, so that each object file keeps its own version.
#pragma once

#include <ATen/cpu/vec/functional.h>
#include <ATen/cpu/vec/vec.h>

#include <cstdint>
#include <functional>
#include <type_traits>

#include "cpu/accumulate.h"

namespace gencond {
namespace {

template <typename A>
using Vec = at::vec::Vectorized<A>;

template <typename T>
inline Vec<accumulate_t<T>> load_as(const T* p) {
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
    return Vec<T>::loadu(p);
  } else {
    Vec<float> out;
    at::vec::load_to_float<T>(p, out);
    return out;
  }
}

// The first `count` lanes, the others 0.
template <typename T>
inline Vec<accumulate_t<T>> load_as(const T* p, int count) {
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
    return Vec<T>::loadu(p, count);
  } else {
    // load_to_float may read a full vector of T, twice as many lanes
    T padded[2 * Vec<float>::size()] = {};
    for (int i = 0; i < count; ++i) padded[i] = p[i];
    return load_as<T>(padded);
  }
}

template <typename T>
inline void store_as(Vec<accumulate_t<T>> x, T* to) {
  if constexpr (std::is_same_v<T, accumulate_t<T>>) {
    x.store(to);
  } else {
    at::vec::convert_from_float<T>(x, x).store(to, Vec<float>::size());
  }
}

template <typename V, int ROWS>
inline V tree_sum(const V* x) {
  if constexpr (ROWS == 1) {
    return x[0];
  } else {
    return tree_sum<V, ROWS / 2>(x) + tree_sum<V, ROWS - ROWS / 2>(x + ROWS / 2);
  }
}

// Makes the compiler load a vector once, instead of once for every product that uses it.
inline Vec<float> in_register(Vec<float> x) {
#if defined(CPU_CAPABILITY_AVX512)
  __m512 value = x;
  asm("" : "+v"(value));
  return value;
#elif defined(CPU_CAPABILITY_AVX2)
  __m256 value = x;
  asm("" : "+x"(value));
  return value;
#else
  return x;
#endif
}

inline float sum_lanes(Vec<float> x) {
  return at::vec::vec_reduce_all<float>(std::plus<Vec<float>>(), x);
}

inline float max_lane(Vec<float> x) {
  return at::vec::vec_reduce_all<float>(
      [](const Vec<float>& a, const Vec<float>& b) { return at::vec::maximum(a, b); }, x);
}

// Whether any lane of a comparison holds.
inline bool any(Vec<float> mask) {
  constexpr int ALL = (1 << Vec<float>::size()) - 1;
  // a lane that holds has all bits set, which is a NaN and not 0
  return mask.zero_mask() != ALL;
}

}  // namespace
}  // namespace gencond
