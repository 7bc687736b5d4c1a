// class_moments on the CPU, for ops that build on it. Contract: ops/class_moments.h. Errors name
// `op`.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

namespace gencond {

std::tuple<at::Tensor, at::Tensor, at::Tensor> class_moments_cpu(const char* op,
                                                                 const at::Tensor& features,
                                                                 const at::Tensor& labels,
                                                                 int64_t num_classes);

}  // namespace gencond
