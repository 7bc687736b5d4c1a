// The type of sums, and kernels for every type of features.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <type_traits>

namespace gencond {

// Sums of T are kept in accumulate_t<T>.
template <typename T>
using accumulate_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

// One `Kernels<T>` for each type T that features may have.
template <template <typename> class Kernels>
struct ByType {
  Kernels<float> f32;
  Kernels<double> f64;
  Kernels<c10::Half> f16;
  Kernels<c10::BFloat16> bf16;

  template <typename T>
  const Kernels<T>& get() const {
    if constexpr (std::is_same_v<T, float>) return f32;
    else if constexpr (std::is_same_v<T, double>) return f64;
    else if constexpr (std::is_same_v<T, c10::Half>) return f16;
    else return bf16;
  }
};

}  // namespace gencond
