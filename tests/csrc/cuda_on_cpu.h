// Just enough of CUDA to run kernels on a CPU. Blocks run one after the other. So do the threads of
// a block, each until it waits for the others or ends.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static  // one block at a time

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

// A thread on a stack of its own.
struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  bool done = false;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static std::function<void()> body;

inline void __syncthreads() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

inline void run_fiber() {
  body();
  fibers[threadIdx.x].done = true;
}

inline void start(Fiber& fiber) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.data();
  fiber.context.uc_stack.ss_size = fiber.stack.size();
  fiber.context.uc_link = &scheduler;
  fiber.done = false;
  makecontext(&fiber.context, run_fiber, 0);
}

inline void run_block() {
  for (Fiber& fiber : fibers) start(fiber);
  for (bool waiting = true; waiting;) {
    waiting = false;
    for (unsigned i = 0; i < fibers.size(); ++i) {
      if (fibers[i].done) continue;
      threadIdx = dim3(i);
      swapcontext(&scheduler, &fibers[i].context);
      waiting = waiting || !fibers[i].done;
    }
  }
}

template <typename Kernel>
void launch(dim3 grid, int threads, const Kernel& kernel) {
  gridDim = grid;
  body = kernel;
  fibers.resize(threads);
  for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
    for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block();
  }
}
