// Contract: moments_kernel.h. Chunks cut the sorted positions without regard to classes, so that
// the size of the grid does not depend on class sizes, which only the device knows.
#include <algorithm>

#include "cuda/moments_kernel.h"
#include "cuda/running.cuh"

namespace gencond::cuda {
namespace {

constexpr int THREADS = 128;  // one column each
constexpr int GROUP = 8;      // rows in flight in each thread
constexpr int64_t CHUNK_ROWS = 256;
constexpr int64_t MOST_CHUNKS = 1024;  // one thread merges them, one after the other

int64_t chunk_rows(int64_t rows) {
  return CHUNK_ROWS * std::max<int64_t>(1, divide_up(rows, CHUNK_ROWS * MOST_CHUNKS));
}

template <typename T, typename A>
__device__ A origin(const MomentsInput& in, int64_t c, int64_t column) {
  const auto* x = static_cast<const T*>(in.features);
  const A first = widen<T, A>(x[in.order[in.offsets[c]] * in.row_stride + column]);
  return isfinite(first) ? first : A(0);
}

// Moments of the rows at positions begin ... end - 1, all of class c.
template <typename T, typename A>
__device__ Running<A> run(const MomentsInput& in, A shift, int64_t begin, int64_t end,
                          int64_t column) {
  const auto* x = static_cast<const T*>(in.features) + column;
  const auto load = [&](int64_t at) {
    return widen<T, A>(x[in.order[at] * in.row_stride]) - shift;
  };
  Running<A> moments;
  int64_t at = begin;
  for (; at + GROUP <= end; at += GROUP) {
    A rows[GROUP];
#pragma unroll
    for (int r = 0; r < GROUP; ++r) rows[r] = load(at + r);
    moments.add(rows);
  }
  for (; at < end; ++at) moments.merge(1, load(at), A(0));
  return moments;
}

// The class that holds a position: the last one that starts at or before it and is not empty.
__device__ int64_t class_at(const MomentsInput& in, int64_t position) {
  int64_t low = 0, high = in.classes;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (in.offsets[middle] <= position ? low : high) = middle;
  }
  return low;
}

// Writes the moments of a class to the tables.
template <typename P>
struct Store {
  P *mean, *m2;

  __device__ void operator()(int64_t, int64_t, int64_t at, double found_mean,
                             double found_m2) const {
    mean[at] = static_cast<P>(found_mean);
    m2[at] = static_cast<P>(found_m2);
  }
  __device__ void empty(int64_t at) const { mean[at] = m2[at] = 0; }
};

// Merges the moments of a class into those that the tables hold.
template <typename P>
struct Merge {
  const int64_t* count;
  P *mean, *m2;

  __device__ void operator()(int64_t c, int64_t rows, int64_t at, double found_mean,
                             double found_m2) const {
    Running<double> total;
    if (count[c] > 0) total = {count[c], mean[at], m2[at]};
    total.merge(rows, found_mean, found_m2);
    mean[at] = static_cast<P>(total.mean);
    m2[at] = static_cast<P>(total.m2);
  }
  __device__ void empty(int64_t) const {}
};

// A chunk may hold the end of one class, then whole classes, then the start of another. Whole
// classes go to the result. Of the others, slot 0 of the workspace takes the one at the start of
// the chunk, slot 1 the one at its end.
template <typename T, typename A, typename Tables>
__global__ void chunks_kernel(MomentsInput in, int64_t size, A* partial, Tables tables) {
  const int64_t column = blockIdx.y * static_cast<int64_t>(THREADS) + threadIdx.x;
  if (column >= in.columns) return;
  const int64_t chunk = blockIdx.x, first = chunk * size;
  const int64_t last = min(first + size, in.rows);
  int64_t c = class_at(in, first);
  for (int64_t begin = first; begin < last; ++c) {
    const int64_t end = min(in.offsets[c + 1], last);
    if (end <= begin) continue;
    const A shift = origin<T, A>(in, c, column);
    const Running<A> found = run<T, A>(in, shift, begin, end, column);
    if (begin == in.offsets[c] && end == in.offsets[c + 1]) {
      tables(c, end - begin, c * in.columns + column, static_cast<double>(found.mean) + shift,
             found.m2);
    } else {
      const int64_t slot = (2 * chunk + (begin != first)) * 2 * in.columns + column;
      partial[slot] = found.mean;
      partial[slot + in.columns] = found.m2;
    }
    begin = end;
  }
}

template <typename T, typename A, typename Tables>
__global__ void merge_kernel(MomentsInput in, int64_t size, const A* partial, Tables tables) {
  const int64_t column = blockIdx.y * static_cast<int64_t>(THREADS) + threadIdx.x;
  if (column >= in.columns) return;
  for (int64_t c = blockIdx.x; c < in.classes; c += gridDim.x) {
    const int64_t begin = in.offsets[c], end = in.offsets[c + 1];
    const int64_t to = c * in.columns + column;
    if (begin == end) {
      tables.empty(to);
      continue;
    }
    const int64_t first = begin / size, last = (end - 1) / size;
    if (first == last) continue;  // written already
    Running<double> total;
    for (int64_t chunk = first; chunk <= last; ++chunk) {
      const int64_t from = max(begin, chunk * size);
      const int64_t slot = (2 * chunk + (from != chunk * size)) * 2 * in.columns + column;
      total.merge(min(end, (chunk + 1) * size) - from, partial[slot], partial[slot + in.columns]);
    }
    tables(c, end - begin, to, total.mean + origin<T, A>(in, c, column), total.m2);
  }
}

template <typename T, typename A>
__global__ void backward_kernel(MomentsInput in, const int64_t* labels, const A* grad_mean,
                                const A* grad_m2, const A* mean, T* grad) {
  const int64_t column = blockIdx.y * static_cast<int64_t>(THREADS) + threadIdx.x;
  if (column >= in.columns) return;
  const auto* x = static_cast<const T*>(in.features) + column;
  for (int64_t i = blockIdx.x; i < in.rows; i += gridDim.x) {
    const int64_t c = labels[i], at = c * in.columns + column;
    const A count = static_cast<A>(in.offsets[c + 1] - in.offsets[c]);
    const A deviation = widen<T, A>(x[i * in.row_stride]) - mean[at];
    grad[i * in.columns + column] =
        narrow<T, A>(grad_mean[at] / count + 2 * grad_m2[at] * deviation);
  }
}

dim3 grid(int64_t across, int64_t columns) {
  constexpr int64_t MOST = 1 << 20;
  return dim3(static_cast<unsigned>(std::min(across, MOST)),
              static_cast<unsigned>(divide_up(columns, THREADS)));
}

template <typename T, typename A, typename Tables>
void forward(const MomentsInput& in, void* workspace, Tables tables, cudaStream_t stream) {
  auto* partial = static_cast<A*>(workspace);
  const int64_t size = chunk_rows(in.rows);
  if (in.rows > 0) {
    chunks_kernel<T, A><<<grid(divide_up(in.rows, size), in.columns), THREADS, 0, stream>>>(
        in, size, partial, tables);
  }
  merge_kernel<T, A><<<grid(in.classes, in.columns), THREADS, 0, stream>>>(in, size, partial,
                                                                           tables);
}

template <typename T, typename A>
void backward(const MomentsInput& in, const int64_t* labels, const void* grad_mean,
              const void* grad_m2, const void* mean, void* grad, cudaStream_t stream) {
  backward_kernel<T, A><<<grid(in.rows, in.columns), THREADS, 0, stream>>>(
      in, labels, static_cast<const A*>(grad_mean), static_cast<const A*>(grad_m2),
      static_cast<const A*>(mean), static_cast<T*>(grad));
}

// Calls f with the type of the features and that of their sums.
template <typename F>
void with_types(Type type, const F& f) {
  switch (type) {
    case Type::F32:
      return f.template operator()<float, float>();
    case Type::F64:
      return f.template operator()<double, double>();
    case Type::F16:
      return f.template operator()<__half, float>();
    case Type::BF16:
      return f.template operator()<__nv_bfloat16, float>();
  }
}

}  // namespace

int64_t workspace_elements(int64_t rows, int64_t columns) {
  return divide_up(rows, chunk_rows(rows)) * 4 * columns;
}

void class_moments(const MomentsInput& input, void* workspace, void* mean, void* m2,
                   cudaStream_t stream) {
  if (input.classes == 0 || input.columns == 0) return;
  with_types(input.type, [&]<typename T, typename A>() {
    const Store<A> tables{static_cast<A*>(mean), static_cast<A*>(m2)};
    forward<T, A>(input, workspace, tables, stream);
  });
}

void class_moments_update(const MomentsInput& input, const int64_t* count, bool wide,
                          void* workspace, void* mean, void* m2, cudaStream_t stream) {
  if (input.rows == 0 || input.columns == 0) return;
  with_types(input.type, [&]<typename T, typename A>() {
    const auto merge_into = [&]<typename P>(P* to_mean) {
      const Merge<P> tables{count, to_mean, static_cast<P*>(m2)};
      forward<T, A>(input, workspace, tables, stream);
    };
    if (wide) merge_into(static_cast<double*>(mean));
    else merge_into(static_cast<float*>(mean));
  });
}

void class_moments_backward(const MomentsInput& input, const int64_t* labels, const void* grad_mean,
                            const void* grad_m2, const void* mean, void* grad,
                            cudaStream_t stream) {
  if (input.rows == 0 || input.columns == 0) return;
  with_types(input.type, [&]<typename T, typename A>() {
    backward<T, A>(input, labels, grad_mean, grad_m2, mean, grad, stream);
  });
}

}  // namespace gencond::cuda
