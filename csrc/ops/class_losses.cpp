#include "ops/class_losses.h"

#include <torch/library.h>

#include <algorithm>

namespace gencond {

void check_rows(const char* op, const at::Tensor& features, const at::Tensor& order) {
  TORCH_CHECK_VALUE(features.dim() == 2, op, ": features must have two dimensions, got ",
                    features.sizes());
  TORCH_CHECK_VALUE(order.dim() == 1 && order.size(0) == features.size(0), op,
                    ": order must have one entry for each of the ", features.size(0),
                    " rows of features, got shape ", order.sizes());
}

void check_layout(const char* op, const at::Tensor& order, const at::Tensor& offsets) {
  TORCH_CHECK_VALUE(order.dim() == 1 && offsets.dim() == 1 && offsets.size(0) >= 1, op,
                    ": order and offsets must have one dimension and offsets an entry, got shapes ",
                    order.sizes(), " and ", offsets.sizes());
  for (const at::Tensor* table : {&order, &offsets}) {
    TORCH_CHECK_TYPE(table->scalar_type() == at::kLong, op,
                     ": order and offsets must be int64, got ", table->scalar_type());
    TORCH_CHECK_VALUE(table->device().is_cpu(), op,
                      ": order and offsets must be on the CPU, not on ", table->device());
  }
  const at::Tensor rows = order.contiguous(), starts = offsets.contiguous();
  const auto *row = rows.const_data_ptr<int64_t>(), *start = starts.const_data_ptr<int64_t>();
  const int64_t n = rows.numel(), classes = starts.numel() - 1;
  const bool sorted = std::is_sorted(start, start + classes + 1);
  TORCH_CHECK_VALUE(start[0] == 0 && start[classes] <= n && sorted, op,
                    ": offsets must not decrease, from 0 to at most ", n);
  for (int64_t i = 0; i < n; ++i) {
    TORCH_CHECK_INDEX(0 <= row[i] && row[i] < n, op, ": order names row ", row[i], " of ", n);
  }
}

TORCH_LIBRARY_FRAGMENT(gencond, m) {
  m.def("class_order(Tensor labels) -> (Tensor order, Tensor offsets)");
  m.def(
      "class_centres(Tensor features, Tensor order, Tensor offsets, Tensor[] tables) -> Tensor");
  m.def(
      "class_centres_backward(Tensor grad, Tensor order, Tensor offsets, ScalarType dtype) "
      "-> Tensor");
  m.def(
      "pair_loss(Tensor features, Tensor order, Tensor offsets, Tensor? centres, "
      "Tensor[] tables, str kind, float parameter, str precision, bool need_grad) "
      "-> (Tensor loss, Tensor grad)");
}

}  // namespace gencond
