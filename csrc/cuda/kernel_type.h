// The kernels' name for a tensor's dtype.
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include "cuda/type.h"

namespace gencond {

inline cuda::Type kernel_type(const char* op, at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return cuda::Type::F32;
    case at::kDouble:
      return cuda::Type::F64;
    case at::kHalf:
      return cuda::Type::F16;
    case at::kBFloat16:
      return cuda::Type::BF16;
    default:
      TORCH_CHECK_TYPE(false, op, ": expected floating point numbers, got ", type);
  }
}

}  // namespace gencond
