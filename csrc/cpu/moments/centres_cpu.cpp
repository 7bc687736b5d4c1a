// class_centres on the CPU, over the same tiles as class_moments. Contract: ops/class_losses.h.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/moments/centres_kernel.h"
#include "cpu/moments/class_tiles.h"
#include "cpu/moments/moments_kernel.h"
#include "ops/class_losses.h"
#include "ops/class_moments.h"

namespace gencond {
namespace {

// The centre of one class from the sums of its chunks, `count` rows in all.
template <typename A>
void write_centre(const A* sums, int64_t stride, int64_t chunks, int64_t count, int64_t columns,
                  const A* shift, A* centre) {
  double total[BLOCK_COLUMNS] = {};
  for (int64_t k = 0; k < chunks; ++k) {
    for (int64_t j = 0; j < columns; ++j) total[j] += sums[k * stride + j];
  }
  for (int64_t j = 0; j < columns; ++j) centre[j] = static_cast<A>(shift[j] + total[j] / count);
}

template <typename T>
void write_centres(const at::Tensor& features, const int64_t* order, const int64_t* start,
                   at::Tensor& centres) {
  using A = accumulate_t<T>;
  const int64_t columns = features.size(1), stride = features.stride(0);
  const Plan plan(start, centres.size(0));
  if (plan.chunks.empty() || columns == 0) return;

  const auto& kernels = GENCOND_ACTIVE_TABLE(gencond_centres_table).get<T>();
  const auto load_shift = GENCOND_ACTIVE_TABLE(gencond_moments_table).get<T>().shift;
  const T* x = features.const_data_ptr<T>();
  A* out = centres.mutable_data_ptr<A>();
  const at::Tensor partials = at::empty({plan.partials, columns}, centres.options());
  A* part = partials.mutable_data_ptr<A>();

  const auto finish = [&](int64_t c, const A* sums, int64_t chunks, int64_t left, int64_t width) {
    A shift[BLOCK_COLUMNS];
    load_shift(x + order[start[c]] * stride + left, width, shift);
    write_centre(sums, columns, chunks, start[c + 1] - start[c], width, shift,
                 out + c * columns + left);
  };
  for_each_tile(plan, columns, [&](int64_t tile, int64_t block) {
    const Chunk& chunk = plan.chunks[tile];
    const int64_t left = block * BLOCK_COLUMNS;
    const int64_t width = std::min(BLOCK_COLUMNS, columns - left);
    const bool whole = chunk.partial < 0;
    A shift[BLOCK_COLUMNS];
    load_shift(x + order[start[chunk.label]] * stride + left, width, shift);
    A* to = (whole ? out + chunk.label * columns : part + chunk.partial * columns) + left;
    kernels.sum(x + left, stride, order + chunk.begin, chunk.end - chunk.begin, width, shift, to);
    if (whole) finish(chunk.label, to, 1, left, width);
  });
  for_each_merge(plan, columns, [&](const Merge& merge, int64_t block) {
    const int64_t left = block * BLOCK_COLUMNS;
    finish(merge.label, part + merge.partial * columns + left, merge.chunks, left,
           std::min(BLOCK_COLUMNS, columns - left));
  });
}

at::Tensor class_centres(const at::Tensor& features, const at::Tensor& order,
                         const at::Tensor& offsets, at::TensorList tables) {
  check_rows("class_centres", features, order);
  check_layout("class_centres", order, offsets);
  const at::Tensor rows = with_dense_rows(features);
  const at::Tensor flat = order.contiguous(), starts = offsets.contiguous();
  const auto* start = starts.const_data_ptr<int64_t>();
  const int64_t num_classes = starts.numel() - 1, columns = features.size(1);
  const auto options = features.options().dtype(
      features.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
  at::Tensor centres = at::empty({num_classes, columns}, options);
  for (int64_t c = 0; c < num_classes;) {
    int64_t end = c;
    while (end < num_classes && start[end + 1] == start[end]) ++end;
    if (end > c) centres.slice(0, c, end).zero_();
    c = end + 1;
  }
  dispatch_type(features.scalar_type(), [&](auto type) {
    write_centres<decltype(type)>(rows, flat.const_data_ptr<int64_t>(), start, centres);
  });
  return centres;
}

at::Tensor class_centres_backward(const at::Tensor& grad, const at::Tensor& order,
                                  const at::Tensor& offsets, at::ScalarType dtype) {
  check_layout("class_centres_backward", order, offsets);
  const int64_t rows = order.numel(), num_classes = offsets.numel() - 1;
  TORCH_CHECK_VALUE(grad.dim() == 2 && grad.size(0) == num_classes,
                    "class_centres_backward: grad must have one row for each of the ", num_classes,
                    " classes, got shape ", grad.sizes());
  const at::Tensor flat = order.contiguous(), starts = offsets.contiguous();
  const auto *row = flat.const_data_ptr<int64_t>(), *start = starts.const_data_ptr<int64_t>();
  const int64_t columns = grad.size(1);
  at::Tensor out = at::empty({rows, columns}, grad.options().dtype(dtype));
  // what each row of a class gets; takes little memory next to the result
  at::Tensor size = starts.slice(0, 1).sub(starts.slice(0, 0, num_classes)).clamp_(1);
  const at::Tensor share = grad.div(size.unsqueeze(1)).to(dtype).contiguous();

  dispatch_type(dtype, [&](auto type) {
    using T = decltype(type);
    const T* from = share.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    const int64_t grain = std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, columns));
    at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) {
      // the class of position `begin`: the last one that starts at or before it
      int64_t c = std::upper_bound(start, start + num_classes + 1, begin) - start - 1;
      for (int64_t i = begin; i < end; ++i) {
        while (c < num_classes && start[c + 1] <= i) ++c;
        T* target = to + row[i] * columns;
        if (c < num_classes) std::copy_n(from + c * columns, columns, target);
        else std::fill_n(target, columns, T(0));
      }
    });
  });
  return out;
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CPU, m) {
  m.impl("class_centres", &class_centres);
  m.impl("class_centres_backward", &class_centres_backward);
}

}  // namespace gencond
