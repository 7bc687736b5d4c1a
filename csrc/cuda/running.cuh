// What the kernels of moments share: conversions between types, and running moments of one column.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace gencond::cuda {
namespace {

__host__ __device__ int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <typename T, typename A>
__device__ A widen(T x) {
  return static_cast<A>(x);
}
template <>
__device__ float widen<__half, float>(__half x) {
  return __half2float(x);
}
template <>
__device__ float widen<__nv_bfloat16, float>(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <typename T, typename A>
__device__ T narrow(A x) {
  return static_cast<T>(x);
}
template <>
__device__ __half narrow<__half, float>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ __nv_bfloat16 narrow<__nv_bfloat16, float>(float x) {
  return __float2bfloat16_rn(x);
}

template <typename A>
struct Running {
  int64_t seen = 0;
  A mean = 0, m2 = 0;

  // Chan, Golub and LeVeque (1979), eq. 2.1
  __device__ void merge(int64_t count, A other_mean, A other_m2) {
    const A share = static_cast<A>(count) / static_cast<A>(seen + count);
    const A delta = other_mean - mean;
    mean += delta * share;
    m2 += other_m2 + delta * (share * static_cast<A>(seen)) * delta;
    seen += count;
  }

  template <int ROWS>
  __device__ void add(const A (&x)[ROWS]) {
    A sum = 0;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) sum += x[r];
    const A group_mean = sum / ROWS;
    A squares = 0;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) squares += (x[r] - group_mean) * (x[r] - group_mean);
    merge(ROWS, group_mean, squares);
  }
};

}  // namespace
}  // namespace gencond::cuda
