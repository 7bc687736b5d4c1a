// class_moments on the CPU: rows are grouped by class and cut into tiles of fixed size, the tiles
// dealt out to the threads, and classes of several tiles merged. Contract: ops/class_moments.h.
#include <ATen/Dispatch.h>
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "cpu/moments_kernel.h"
#include "ops/class_moments.h"

namespace gencond {
namespace {

// Tiles depend on the input alone, never on the number of threads, hence nor do the results.
constexpr int64_t CHUNK_ROWS = 256;
constexpr int64_t BLOCK_COLUMNS = 1024;
// Below this many elements a second thread costs more than it saves.
constexpr int64_t GRAIN = 32768;

const MomentsTable& moments_table() {
  switch (active_isa()) {
#ifdef GENCOND_HAVE_AVX512
    case Isa::AVX512:
      return *gencond_moments_table_AVX512();
    case Isa::AVX2:
      return *gencond_moments_table_AVX2();
#endif
    default:
      return *gencond_moments_table_DEFAULT();
  }
}

// Row numbers sorted by class, in input order within a class: a counting sort.
struct ClassOrder {
  std::vector<int64_t> start;  // [C + 1]
  std::vector<int64_t> order;  // [N]

  ClassOrder(const int64_t* labels, int64_t rows, int64_t num_classes)
      : start(num_classes + 1), order(rows) {
    for (int64_t i = 0; i < rows; ++i) {
      check_label(labels[i], num_classes);
      ++start[labels[i] + 1];
    }
    for (int64_t c = 0; c < num_classes; ++c) start[c + 1] += start[c];
    std::vector<int64_t> next(start.begin(), start.end() - 1);
    for (int64_t i = 0; i < rows; ++i) order[next[labels[i]]++] = i;
  }

  int64_t count(int64_t c) const { return start[c + 1] - start[c]; }
};

// At most CHUNK_ROWS rows of one class.
struct Chunk {
  int64_t label;
  int64_t begin, end;  // into ClassOrder::order
  int64_t partial;     // row of the partial results, or -1 if this is the whole class
};

// A class of several chunks.
struct Merge {
  int64_t label;
  int64_t partial, chunks;  // the first row of its partial results, and their number
};

struct Plan {
  std::vector<Chunk> chunks;
  std::vector<int64_t> cost;  // [chunks + 1], running sum
  std::vector<Merge> merges;
  int64_t partials = 0;

  explicit Plan(const ClassOrder& classes) {
    const auto num_classes = static_cast<int64_t>(classes.start.size()) - 1;
    cost.push_back(0);
    for (int64_t c = 0; c < num_classes; ++c) {
      const int64_t count = (classes.count(c) + CHUNK_ROWS - 1) / CHUNK_ROWS;
      if (count > 1) merges.push_back({c, partials, count});
      for (int64_t begin = classes.start[c]; begin < classes.start[c + 1]; begin += CHUNK_ROWS) {
        const int64_t end = std::min(begin + CHUNK_ROWS, classes.start[c + 1]);
        chunks.push_back({c, begin, end, count > 1 ? partials++ : -1});
        cost.push_back(cost.back() + end - begin + 1);  // 1: a chunk has costs of its own
      }
    }
  }
};

// Calls f(chunk, block) for every chunk and column block, each thread getting about the same work.
template <typename F>
void for_each_tile(const Plan& plan, int64_t blocks, int64_t grain, const F& f) {
  const auto chunks = static_cast<int64_t>(plan.chunks.size());
  const int64_t total = plan.cost.back();
  at::parallel_for(0, total * blocks, grain, [&](int64_t begin, int64_t end) {
    // a tile belongs to the thread in whose range of costs it starts
    const auto first = std::lower_bound(plan.cost.begin(), plan.cost.end() - 1, begin % total);
    int64_t block = begin / total;
    int64_t chunk = first - plan.cost.begin();
    for (;; ++chunk) {
      if (chunk == chunks) {
        chunk = 0;
        ++block;
      }
      if (block * total + plan.cost[chunk] >= end) return;
      f(chunk, block);
    }
  });
}

// The first sample of the class, widened: what its deviations are taken from.
template <typename T, typename A>
void load_shift(const T* row, int64_t columns, A* shift) {
  for (int64_t j = 0; j < columns; ++j) {
    const auto value = static_cast<A>(row[j]);
    shift[j] = std::isfinite(value) ? value : A(0);
  }
}

// Merges the partial moments of one class, `count` rows in all, by Chan's update.
template <typename A>
void merge_chunks(const A* mean, const A* m2, int64_t stride, int64_t chunks, int64_t count,
                  int64_t columns, const A* shift, A* mean_out, A* m2_out) {
  double total_mean[BLOCK_COLUMNS] = {}, total_m2[BLOCK_COLUMNS] = {};
  for (int64_t k = 0; k < chunks; ++k, mean += stride, m2 += stride) {
    const int64_t seen = k * CHUNK_ROWS;
    const int64_t rows = std::min(CHUNK_ROWS, count - seen);
    const double share = static_cast<double>(rows) / (seen + rows);
    for (int64_t j = 0; j < columns; ++j) {
      const double delta = mean[j] - total_mean[j];
      total_mean[j] += delta * share;
      total_m2[j] += m2[j] + delta * delta * share * seen;
    }
  }
  for (int64_t j = 0; j < columns; ++j) {
    mean_out[j] = static_cast<A>(total_mean[j] + shift[j]);
    m2_out[j] = static_cast<A>(total_m2[j]);
  }
}

template <typename T>
void moments(const at::Tensor& features, const ClassOrder& classes, at::Tensor& mean,
             at::Tensor& m2) {
  using A = accumulate_t<T>;
  const int64_t columns = features.size(1), stride = features.stride(0);
  const int64_t blocks = (columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
  const Plan plan(classes);
  if (plan.chunks.empty() || blocks == 0) return;

  const auto& kernels = moments_table().get<T>();
  const T* x = features.const_data_ptr<T>();
  A *mean_out = mean.mutable_data_ptr<A>(), *m2_out = m2.mutable_data_ptr<A>();
  const at::Tensor partials = at::empty({2, plan.partials, columns}, mean.options());
  A* mean_part = partials.mutable_data_ptr<A>();
  A* m2_part = mean_part + plan.partials * columns;
  const auto first_row = [&](int64_t c) { return x + classes.order[classes.start[c]] * stride; };

  const int64_t grain = std::max<int64_t>(1, GRAIN / std::min(columns, BLOCK_COLUMNS));
  for_each_tile(plan, blocks, grain, [&](int64_t tile, int64_t block) {
    const Chunk& chunk = plan.chunks[tile];
    const int64_t left = block * BLOCK_COLUMNS;
    const int64_t width = std::min(BLOCK_COLUMNS, columns - left);
    const bool whole = chunk.partial < 0;
    A* mean_to = (whole ? mean_out + chunk.label * columns : mean_part + chunk.partial * columns);
    A* m2_to = (whole ? m2_out + chunk.label * columns : m2_part + chunk.partial * columns);
    A shift[BLOCK_COLUMNS];
    load_shift(first_row(chunk.label) + left, width, shift);
    kernels.forward(x + left, stride, classes.order.data() + chunk.begin, chunk.end - chunk.begin,
                    width, shift, mean_to + left, m2_to + left);
    if (whole) {
      for (int64_t j = 0; j < width; ++j) mean_to[left + j] += shift[j];
    }
  });

  const auto merges = static_cast<int64_t>(plan.merges.size());
  at::parallel_for(0, merges * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Merge& merge = plan.merges[i / blocks];
      const int64_t left = i % blocks * BLOCK_COLUMNS;
      const int64_t width = std::min(BLOCK_COLUMNS, columns - left);
      const int64_t from = merge.partial * columns + left, to = merge.label * columns + left;
      A shift[BLOCK_COLUMNS];
      load_shift(first_row(merge.label) + left, width, shift);
      merge_chunks(mean_part + from, m2_part + from, columns, merge.chunks,
                   classes.count(merge.label), width, shift, mean_out + to, m2_out + to);
    }
  });
}

template <typename F>
void dispatch(at::ScalarType type, const F& f) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, "class_moments",
                                  [&] { f(scalar_t{}); });
}

// Kernels step over rows as they like but want the columns of a row side by side.
at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> class_moments(const at::Tensor& features,
                                                             const at::Tensor& labels,
                                                             int64_t num_classes) {
  check_samples(features, labels);
  TORCH_CHECK_VALUE(num_classes >= 0, "class_moments: num_classes must not be negative, got ",
                    num_classes);
  const at::Tensor rows = with_dense_rows(features);
  const at::Tensor flat = labels.contiguous();
  const ClassOrder classes(flat.const_data_ptr<int64_t>(), flat.size(0), num_classes);

  const auto options = features.options().dtype(
      features.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  at::Tensor count = at::empty({num_classes}, labels.options());
  at::Tensor mean = at::empty({num_classes, features.size(1)}, options);
  at::Tensor m2 = at::empty_like(mean);
  for (int64_t c = 0; c < num_classes; ++c) {
    count.mutable_data_ptr<int64_t>()[c] = classes.count(c);
    if (classes.count(c) == 0) {
      mean.select(0, c).zero_();
      m2.select(0, c).zero_();
    }
  }
  dispatch(features.scalar_type(),
           [&](auto type) { moments<decltype(type)>(rows, classes, mean, m2); });
  return {count, mean, m2};
}

at::Tensor class_moments_backward(const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                                  const at::Tensor& features, const at::Tensor& labels,
                                  const at::Tensor& count, const at::Tensor& mean) {
  check_samples(features, labels);
  const int64_t num_classes = count.numel(), columns = features.size(1);
  for (const at::Tensor* table : {&grad_mean, &grad_m2, &mean}) {
    TORCH_CHECK_VALUE(
        table->dim() == 2 && table->size(0) == num_classes && table->size(1) == columns,
        "class_moments_backward: expected shape [", num_classes, ", ", columns, "], got ",
        table->sizes());
  }
  const at::Tensor rows = with_dense_rows(features);
  const at::Tensor flat = labels.contiguous(), counts = count.contiguous();
  const at::Tensor g_mean = grad_mean.contiguous(), g_m2 = grad_m2.contiguous();
  const at::Tensor means = mean.contiguous();
  at::Tensor grad = at::empty(features.sizes(), features.options());

  dispatch(features.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = accumulate_t<T>;
    const auto& kernels = moments_table().get<T>();
    const T* x = rows.const_data_ptr<T>();
    const int64_t stride = rows.stride(0);
    const auto* label = flat.const_data_ptr<int64_t>();
    const auto* sizes = counts.const_data_ptr<int64_t>();
    const A *gm = g_mean.const_data_ptr<A>(), *g2 = g_m2.const_data_ptr<A>();
    const A* mu = means.const_data_ptr<A>();
    T* out = grad.mutable_data_ptr<T>();
    const int64_t grain = std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, columns));
    at::parallel_for(0, rows.size(0), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        check_label(label[i], num_classes);
        const int64_t at = label[i] * columns;
        kernels.backward(x + i * stride, gm + at, g2 + at, mu + at,
                         static_cast<A>(sizes[label[i]]), columns, out + i * columns);
      }
    });
  });
  return grad;
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CPU, m) {
  m.impl("class_moments", &class_moments);
  m.impl("class_moments_backward", &class_moments_backward);
}

}  // namespace gencond
