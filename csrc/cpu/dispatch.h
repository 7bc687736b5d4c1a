// From a tensor's dtype to a C++ type. Not for files that are compiled once per instruction set.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>

namespace gencond {

// Calls f with a value of the C++ type that stands for the dtype: float, double, Half or BFloat16.
template <typename F>
void dispatch_type(at::ScalarType type, const F& f) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, "gencond",
                                  [&] { f(scalar_t{}); });
}

}  // namespace gencond
