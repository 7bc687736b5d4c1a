// The types of numbers that the kernels take.
#pragma once

namespace gencond::cuda {

enum class Type { F32, F64, F16, BF16 };

}  // namespace gencond::cuda
