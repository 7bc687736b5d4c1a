// Contract: channel_kernel.h. A block takes a chunk of the elements of one channel, or of several
// channels that lie side by side. Its threads take turns, so that neighbouring threads read
// neighbouring elements.
#include <algorithm>

#include "cuda/channel_kernel.h"
#include "cuda/running.cuh"

namespace gencond::cuda {
namespace {

constexpr int THREADS = 128;
constexpr int GROUP = 8;  // elements in flight in each thread

// How blocks and threads share the elements of channels. Only the shape decides this, so the bits
// do not depend on the GPU.
struct Tiling {
  int width, lanes;         // channels of a block; threads of a channel in it
  int64_t chunk, chunks;    // elements of a channel in a block; blocks of a channel
  int64_t groups;           // of `width` channels
  int64_t samples, places;  // one turn of the lanes, in whole samples and positions
};

Tiling tile(const ChannelInput& in) {
  constexpr int64_t MOST = 256, LEAST = 32, ENOUGH_BLOCKS = 1024;  // elements of a thread; blocks
  const bool side_by_side = in.size == 1 && in.channel_stride == 1;
  Tiling out;
  out.width = side_by_side ? static_cast<int>(std::min<int64_t>(in.channels, THREADS)) : 1;
  out.lanes = THREADS / out.width;
  out.groups = divide_up(in.channels, out.width);
  const int64_t count = in.samples * in.size;
  for (int64_t each = MOST; each >= LEAST; each /= 2) {
    out.chunk = out.lanes * each;
    out.chunks = divide_up(count, out.chunk);
    if (out.chunks * out.groups >= ENOUGH_BLOCKS) break;
  }
  out.samples = out.lanes / in.size;
  out.places = out.lanes % in.size;
  return out;
}

// Steps through the elements of one thread.
struct Walk {
  int64_t channel, chunk;
  int lane;
  bool active;
  int64_t left;       // elements that this thread has yet to visit
  int64_t n, s;

  __device__ Walk(const ChannelInput& in, const Tiling& tiling)
      : channel(blockIdx.x % tiling.groups * tiling.width + threadIdx.x % tiling.width),
        chunk(blockIdx.x / tiling.groups),
        lane(threadIdx.x / tiling.width) {
    active = lane < tiling.lanes && channel < in.channels;
    const int64_t first = chunk * tiling.chunk;
    const int64_t last = min(first + tiling.chunk, in.samples * in.size);
    const int64_t rest = active ? last - first - lane : 0;
    left = rest > 0 ? (rest + tiling.lanes - 1) / tiling.lanes : 0;
    n = (first + lane) / in.size;
    s = (first + lane) % in.size;
  }

  __device__ void next(const ChannelInput& in, const Tiling& tiling) {
    n += tiling.samples;
    s += tiling.places;
    if (s >= in.size) {
      s -= in.size;
      ++n;
    }
    --left;
  }
};

template <typename T, typename A>
__device__ A origin(const ChannelInput& in, int64_t channel) {
  const A first = widen<T, A>(static_cast<const T*>(in.x)[channel * in.channel_stride]);
  return isfinite(first) ? first : A(0);
}

// Merges the moments of all lanes of a channel into those of lane 0. The whole block must call it.
template <typename A>
__device__ void merge_lanes(Running<A>& own, int lane, int lanes, int width) {
  __shared__ int64_t seen[THREADS];
  __shared__ A mean[THREADS], m2[THREADS];
  const int me = threadIdx.x;
  for (int active = lanes; active > 1;) {
    const int half = (active + 1) / 2;
    if (lane >= half && lane < active) {
      seen[me] = own.seen;
      mean[me] = own.mean;
      m2[me] = own.m2;
    }
    __syncthreads();
    const int other = me + half * width;
    if (lane + half < active && seen[other] > 0) own.merge(seen[other], mean[other], m2[other]);
    active = half;
  }
}

template <typename T, typename A>
__global__ void channel_chunks_kernel(ChannelInput in, Tiling tiling, A* partial) {
  Walk at(in, tiling);
  Running<A> found;
  if (at.active) {
    const auto* x = static_cast<const T*>(in.x) + at.channel * in.channel_stride;
    const A shift = origin<T, A>(in, at.channel);
    const auto load = [&] {
      const A value = widen<T, A>(x[at.n * in.sample_stride + at.s]) - shift;
      at.next(in, tiling);
      return value;
    };
    while (at.left >= GROUP) {
      A group[GROUP];
#pragma unroll
      for (int r = 0; r < GROUP; ++r) group[r] = load();
      found.add(group);
    }
    while (at.left > 0) found.merge(1, load(), A(0));
  }
  merge_lanes(found, at.lane, tiling.lanes, tiling.width);
  if (at.active && at.lane == 0) {
    const int64_t to = at.chunk * in.channels + at.channel;
    partial[to] = found.mean;
    partial[to + tiling.chunks * in.channels] = found.m2;
  }
}

template <typename T, typename A>
__global__ void channel_merge_kernel(ChannelInput in, Tiling tiling, const A* partial, A* mean,
                                     A* m2) {
  const int64_t c = blockIdx.x, count = in.samples * in.size;
  Running<double> total;
  for (int64_t k = threadIdx.x; k < tiling.chunks; k += THREADS) {
    const int64_t from = k * in.channels + c;
    total.merge(min(tiling.chunk, count - k * tiling.chunk), partial[from],
                partial[from + tiling.chunks * in.channels]);
  }
  merge_lanes(total, static_cast<int>(threadIdx.x), THREADS, 1);
  if (threadIdx.x == 0) {
    mean[c] = static_cast<A>(total.mean + origin<T, A>(in, c));
    m2[c] = static_cast<A>(total.m2);
  }
}

template <typename T, typename A>
__global__ void channel_backward_kernel(ChannelInput in, Tiling tiling, const A* grad_mean,
                                        const A* grad_m2, const A* mean, ChannelGrad grad) {
  Walk at(in, tiling);
  if (!at.active) return;
  const int64_t c = at.channel;
  const A intercept = grad_mean[c] / static_cast<A>(in.samples * in.size);
  const A slope = 2 * grad_m2[c], centre = mean[c];
  const auto* x = static_cast<const T*>(in.x) + c * in.channel_stride;
  auto* to = static_cast<T*>(grad.grad) + c * grad.channel_stride;
  for (; at.left > 0; at.next(in, tiling)) {
    const A deviation = widen<T, A>(x[at.n * in.sample_stride + at.s]) - centre;
    to[at.n * grad.sample_stride + at.s] = narrow<T, A>(intercept + slope * deviation);
  }
}

dim3 grid(int64_t blocks) { return dim3(static_cast<unsigned>(blocks)); }

template <typename T, typename A>
void forward(const ChannelInput& in, void* workspace, void* mean, void* m2, cudaStream_t stream) {
  const Tiling tiling = tile(in);
  auto* partial = static_cast<A*>(workspace);
  channel_chunks_kernel<T, A><<<grid(tiling.chunks * tiling.groups), THREADS, 0, stream>>>(
      in, tiling, partial);
  channel_merge_kernel<T, A><<<grid(in.channels), THREADS, 0, stream>>>(
      in, tiling, partial, static_cast<A*>(mean), static_cast<A*>(m2));
}

template <typename T, typename A>
void backward(const ChannelInput& in, const void* grad_mean, const void* grad_m2, const void* mean,
              const ChannelGrad& grad, cudaStream_t stream) {
  const Tiling tiling = tile(in);
  channel_backward_kernel<T, A><<<grid(tiling.chunks * tiling.groups), THREADS, 0, stream>>>(
      in, tiling, static_cast<const A*>(grad_mean), static_cast<const A*>(grad_m2),
      static_cast<const A*>(mean), grad);
}

}  // namespace

int64_t channel_workspace_elements(const ChannelInput& input) {
  return 2 * tile(input).chunks * input.channels;
}

void channel_moments(const ChannelInput& input, void* workspace, void* mean, void* m2,
                     cudaStream_t stream) {
  switch (input.type) {
    case Type::F32:
      return forward<float, float>(input, workspace, mean, m2, stream);
    case Type::F64:
      return forward<double, double>(input, workspace, mean, m2, stream);
    case Type::F16:
      return forward<__half, float>(input, workspace, mean, m2, stream);
    case Type::BF16:
      return forward<__nv_bfloat16, float>(input, workspace, mean, m2, stream);
  }
}

void channel_moments_backward(const ChannelInput& input, const void* grad_mean, const void* grad_m2,
                              const void* mean, const ChannelGrad& grad, cudaStream_t stream) {
  switch (input.type) {
    case Type::F32:
      return backward<float, float>(input, grad_mean, grad_m2, mean, grad, stream);
    case Type::F64:
      return backward<double, double>(input, grad_mean, grad_m2, mean, grad, stream);
    case Type::F16:
      return backward<__half, float>(input, grad_mean, grad_m2, mean, grad, stream);
    case Type::BF16:
      return backward<__nv_bfloat16, float>(input, grad_mean, grad_m2, mean, grad, stream);
  }
}

}  // namespace gencond::cuda
