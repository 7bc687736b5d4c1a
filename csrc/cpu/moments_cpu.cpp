// class_moments on the CPU: rows are grouped by class and cut into tiles of fixed size, the tiles
// dealt out to the threads, and classes of several tiles merged. Contract: ops/class_moments.h.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "cpu/class_tiles.h"
#include "cpu/moments_kernel.h"
#include "ops/class_moments.h"

namespace gencond {
namespace {

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
  const Plan plan(classes.start.data(), static_cast<int64_t>(classes.start.size()) - 1);
  if (plan.chunks.empty() || columns == 0) return;

  const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_moments_table).get<T>();
  const T* x = features.const_data_ptr<T>();
  A *mean_out = mean.mutable_data_ptr<A>(), *m2_out = m2.mutable_data_ptr<A>();
  const at::Tensor partials = at::empty({2, plan.partials, columns}, mean.options());
  A* mean_part = partials.mutable_data_ptr<A>();
  A* m2_part = mean_part + plan.partials * columns;
  const auto first_row = [&](int64_t c) { return x + classes.order[classes.start[c]] * stride; };

  for_each_tile(plan, columns, [&](int64_t tile, int64_t block) {
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

  for_each_merge(plan, columns, [&](const Merge& merge, int64_t block) {
    const int64_t left = block * BLOCK_COLUMNS;
    const int64_t width = std::min(BLOCK_COLUMNS, columns - left);
    const int64_t from = merge.partial * columns + left, to = merge.label * columns + left;
    A shift[BLOCK_COLUMNS];
    load_shift(first_row(merge.label) + left, width, shift);
    merge_chunks(mean_part + from, m2_part + from, columns, merge.chunks,
                 classes.count(merge.label), width, shift, mean_out + to, m2_out + to);
  });
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
  dispatch_type(features.scalar_type(),
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

  dispatch_type(features.scalar_type(), [&](auto type) {
    using T = decltype(type);
    using A = accumulate_t<T>;
    const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_moments_table).get<T>();
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
