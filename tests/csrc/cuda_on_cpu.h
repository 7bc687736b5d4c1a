// Just enough of CUDA to run kernels that need no shared memory and no synchronisation, one thread
// after the other, on a CPU.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

#define __global__
#define __device__
#define __host__

using std::isfinite;
using std::max;
using std::min;

using __half = _Float16;
struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __half2float(__half x) { return static_cast<float>(x); }
inline __half __float2half_rn(float x) { return static_cast<__half>(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return std::bit_cast<float>(x.bits << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

struct dim3 {
  unsigned x, y;
  dim3(unsigned x = 1, unsigned y = 1) : x(x), y(y) {}
};

static dim3 gridDim, blockIdx, threadIdx;

template <typename Kernel>
void launch(dim3 grid, int threads, const Kernel& kernel) {
  gridDim = grid;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = dim3(x, y);
      for (int i = 0; i < threads; ++i) {
        threadIdx = dim3(i);
        kernel();
      }
    }
  }
}
