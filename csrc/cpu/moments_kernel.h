// The inner loops of class_moments on raw pointers, compiled once per instruction set.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstdint>
#include <type_traits>

#include "cpu/isa.h"

namespace gencond {

// Sums of T are kept in accumulate_t<T>.
template <typename T>
using accumulate_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
struct MomentsKernels {
  using A = accumulate_t<T>;

  // mean[j] and m2[j] of x[order[i] * stride + j] - shift[j] over i = 0 ... rows - 1, for every
  // j = 0 ... columns - 1; rows >= 1.
  void (*forward)(const T* x, int64_t stride, const int64_t* order, int64_t rows, int64_t columns,
                  const A* shift, A* mean, A* m2);

  // grad[j] = grad_mean[j] / count + 2 grad_m2[j] (x[j] - mean[j]) of one row.
  void (*backward)(const T* x, const A* grad_mean, const A* grad_m2, const A* mean, A count,
                   int64_t columns, T* grad);
};

struct MomentsTable {
  MomentsKernels<float> f32;
  MomentsKernels<double> f64;
  MomentsKernels<c10::Half> f16;
  MomentsKernels<c10::BFloat16> bf16;

  template <typename T>
  const MomentsKernels<T>& get() const {
    if constexpr (std::is_same_v<T, float>) return f32;
    else if constexpr (std::is_same_v<T, double>) return f64;
    else if constexpr (std::is_same_v<T, c10::Half>) return f16;
    else return bf16;
  }
};

extern "C" {
const MomentsTable* gencond_moments_table_DEFAULT();
const MomentsTable* gencond_moments_table_AVX2();
const MomentsTable* gencond_moments_table_AVX512();
}

}  // namespace gencond
