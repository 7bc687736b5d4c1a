// class_order on the CPU: a radix sort. The width of a digit grows with the number of labels, so
// that labels of a narrow range take one pass. Contract: ops/class_losses.h.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <bit>
#include <tuple>
#include <vector>

#include "ops/class_losses.h"

namespace gencond {
namespace {

// One stable pass: sorts the rows of `from` into `to` by `width` bits of their keys, from bit
// `shift` on. Row i has the key label[i] - lowest, which fits an unsigned number for any labels.
void sort_by_digit(const int64_t* label, uint64_t lowest, int shift, int width,
                   const int64_t* from, int64_t* to, int64_t rows) {
  const uint64_t mask = (uint64_t{1} << width) - 1;
  const auto digit = [&](int64_t i) {
    return ((static_cast<uint64_t>(label[i]) - lowest) >> shift) & mask;
  };
  std::vector<int64_t> next(mask + 2);
  for (int64_t i = 0; i < rows; ++i) ++next[digit(i) + 1];
  for (uint64_t k = 0; k <= mask; ++k) next[k + 1] += next[k];
  for (int64_t i = 0; i < rows; ++i) to[next[digit(from[i])]++] = from[i];
}

std::tuple<at::Tensor, at::Tensor> class_order(const at::Tensor& labels) {
  TORCH_CHECK_VALUE(labels.dim() == 1, "class_order: labels must have one dimension, got ",
                    labels.sizes());
  TORCH_CHECK_TYPE(labels.scalar_type() == at::kLong, "class_order: labels must be int64, got ",
                   labels.scalar_type());
  const at::Tensor flat = labels.contiguous();
  const auto* label = flat.const_data_ptr<int64_t>();
  const int64_t rows = flat.numel();
  at::Tensor order = at::arange(rows, labels.options());
  at::Tensor offsets = at::empty({rows + 1}, labels.options());

  if (rows > 0) {
    const auto [low, high] = std::minmax_element(label, label + rows);
    const auto lowest = static_cast<uint64_t>(*low);
    const auto width_of = [](uint64_t x) { return static_cast<int>(std::bit_width(x)); };
    const int bits = width_of(static_cast<uint64_t>(*high) - lowest);
    const int width = std::min(width_of(static_cast<uint64_t>(rows)) + 2, 24);
    at::Tensor other = at::empty_like(order);
    for (int shift = 0; shift < bits; shift += width) {
      sort_by_digit(label, lowest, shift, std::min(width, bits - shift),
                    order.const_data_ptr<int64_t>(), other.mutable_data_ptr<int64_t>(), rows);
      std::swap(order, other);
    }
  }
  const auto* row = order.const_data_ptr<int64_t>();
  auto* start = offsets.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; ++i) {
    if (i == 0 || label[row[i]] != label[row[i - 1]]) *start++ = i;
  }
  std::fill(start, offsets.mutable_data_ptr<int64_t>() + rows + 1, rows);
  return {order, offsets};
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CPU, m) { m.impl("class_order", &class_order); }

}  // namespace gencond
