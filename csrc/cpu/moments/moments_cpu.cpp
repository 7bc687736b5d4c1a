// class_moments on the CPU: rows are sorted by class and cut into tiles of fixed size, which the
// threads share; the tiles of a large class are then merged. Contract: ops/class_moments.h.
#include "cpu/moments/moments_cpu.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/moments/class_rows.h"
#include "cpu/moments/class_tiles.h"
#include "cpu/moments/moments_kernel.h"
#include "ops/class_moments.h"

namespace gencond {
namespace {

// Merges the moments of every class that has rows into the tables, where class c holds the moments
// of seen[c] earlier rows. A null `seen` means that there are none; the tables are not read then.
template <typename T, typename P>
void merge_classes(const at::Tensor& features, const ClassRows& classes, const int64_t* seen,
                   P* mean, P* m2) {
  using A = accumulate_t<T>;
  const int64_t columns = features.size(1), stride = features.stride(0);
  const int64_t *start = classes.start(), *order = classes.order();
  const Plan plan(start, classes.classes());
  if (plan.chunks.empty() || columns == 0) return;

  const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_moments_table).get<T>();
  const T* x = features.const_data_ptr<T>();
  const auto partials = std::make_unique_for_overwrite<A[]>(2 * plan.partials * columns);
  A *mean_part = partials.get(), *m2_part = mean_part + plan.partials * columns;
  const auto load_shift = [&](int64_t c, int64_t left, int64_t width, A* shift) {
    kernels.shift(x + order[start[c]] * stride + left, width, shift);
  };
  const auto finish = [&](int64_t c, const A* part_mean, const A* part_m2, const A* shift,
                          int64_t left, int64_t width) {
    const PartialMoments<A> parts{part_mean, part_m2, columns, classes.count(c), CHUNK_ROWS};
    const int64_t to = c * columns + left;
    kernels.template fold<P>()(parts, shift, seen == nullptr ? 0 : seen[c], width, mean + to,
                               m2 + to);
  };

  for_each_tile(plan, columns, [&](int64_t tile, int64_t block) {
    const Chunk& chunk = plan.chunks[tile];
    const int64_t left = block * BLOCK_COLUMNS;
    const int64_t width = std::min(BLOCK_COLUMNS, columns - left);
    const bool whole = chunk.partial < 0;
    A shift[BLOCK_COLUMNS], own_mean[BLOCK_COLUMNS], own_m2[BLOCK_COLUMNS];
    load_shift(chunk.label, left, width, shift);
    A* to_mean = whole ? own_mean : mean_part + chunk.partial * columns + left;
    A* to_m2 = whole ? own_m2 : m2_part + chunk.partial * columns + left;
    kernels.forward(x + left, stride, order + chunk.begin, chunk.end - chunk.begin,
                    classes.rows() - chunk.begin, width, shift, to_mean, to_m2);
    if (whole) finish(chunk.label, to_mean, to_m2, shift, left, width);
  });

  for_each_merge(plan, columns, [&](const Merge& merge, int64_t block) {
    const int64_t left = block * BLOCK_COLUMNS;
    const int64_t width = std::min(BLOCK_COLUMNS, columns - left);
    const int64_t from = merge.partial * columns + left;
    A shift[BLOCK_COLUMNS];
    load_shift(merge.label, left, width, shift);
    finish(merge.label, mean_part + from, m2_part + from, shift, left, width);
  });
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> class_moments(const at::Tensor& features,
                                                             const at::Tensor& labels,
                                                             int64_t num_classes) {
  return class_moments_cpu("class_moments", features, labels, num_classes);
}

void class_moments_update_(const at::Tensor& count, const at::Tensor& mean, const at::Tensor& m2,
                           const at::Tensor& features, const at::Tensor& labels) {
  constexpr const char* OP = "class_moments_update_";
  check_samples(OP, features, labels);
  check_update_tables(OP, count, mean, m2, features);
  const at::Tensor rows = with_dense_rows(features);
  const at::Tensor flat = labels.contiguous();
  const ClassRows classes(OP, flat.const_data_ptr<int64_t>(), flat.size(0), count.size(0));
  mark_changed(count, mean, m2);

  auto* seen = count.mutable_data_ptr<int64_t>();
  dispatch_type(features.scalar_type(), [&](auto type) {
    using T = decltype(type);
    AT_DISPATCH_FLOATING_TYPES(mean.scalar_type(), OP, [&] {
      merge_classes<T, scalar_t>(rows, classes, seen, mean.mutable_data_ptr<scalar_t>(),
                                 m2.mutable_data_ptr<scalar_t>());
    });
  });
  for (int64_t c = 0; c < classes.classes(); ++c) seen[c] += classes.count(c);
}

at::Tensor class_moments_backward(const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                                  const at::Tensor& features, const at::Tensor& labels,
                                  const at::Tensor& count, const at::Tensor& mean) {
  check_samples("class_moments_backward", features, labels);
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
        check_label("class_moments_backward", label[i], num_classes);
        const int64_t at = label[i] * columns;
        kernels.backward(x + i * stride, gm + at, g2 + at, mu + at,
                         static_cast<A>(sizes[label[i]]), columns, out + i * columns);
      }
    });
  });
  return grad;
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> class_moments_cpu(const char* op,
                                                                 const at::Tensor& features,
                                                                 const at::Tensor& labels,
                                                                 int64_t num_classes) {
  check_samples(op, features, labels);
  TORCH_CHECK_VALUE(num_classes >= 0, op, ": num_classes must not be negative, got ", num_classes);
  const at::Tensor rows = with_dense_rows(features);
  const at::Tensor flat = labels.contiguous();
  const ClassRows classes(op, flat.const_data_ptr<int64_t>(), flat.size(0), num_classes);

  at::Tensor count = at::empty({num_classes}, labels.options());
  auto* counts = count.mutable_data_ptr<int64_t>();
  for (int64_t c = 0; c < num_classes; ++c) counts[c] = classes.count(c);
  at::Tensor mean, m2;
  dispatch_type(features.scalar_type(), [&](auto type) {
    using A = accumulate_t<decltype(type)>;
    const int64_t columns = features.size(1);
    const auto options = features.options().dtype(c10::CppTypeToScalarType<A>());
    mean = at::empty({num_classes, columns}, options);
    m2 = at::empty_like(mean);
    for (at::Tensor* table : {&mean, &m2}) {
      A* values = table->mutable_data_ptr<A>();
      for (int64_t c = 0; c < num_classes; ++c) {
        if (counts[c] == 0) std::fill_n(values + c * columns, columns, A(0));
      }
    }
    merge_classes<decltype(type)>(rows, classes, nullptr, mean.mutable_data_ptr<A>(),
                                  m2.mutable_data_ptr<A>());
  });
  return {count, mean, m2};
}

TORCH_LIBRARY_IMPL(gencond, CPU, m) {
  m.impl("class_moments", &class_moments);
  m.impl("class_moments_update_", &class_moments_update_);
  m.impl("class_moments_backward", &class_moments_backward);
}

}  // namespace gencond
