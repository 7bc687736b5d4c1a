#include "ops/class_moments.h"

#include <torch/library.h>

namespace gencond {

void check_samples(const char* op, const at::Tensor& features, const at::Tensor& labels) {
  TORCH_CHECK_VALUE(features.dim() == 2, op, ": features must have two dimensions, got ",
                    features.sizes());
  TORCH_CHECK_VALUE(labels.dim() == 1 && labels.size(0) == features.size(0), op,
                    ": labels must have one entry for each of the ", features.size(0),
                    " rows of features, got shape ", labels.sizes());
  TORCH_CHECK_TYPE(labels.scalar_type() == at::kLong, op, ": labels must be int64, got ",
                   labels.scalar_type());
  TORCH_CHECK_VALUE(labels.device() == features.device(), op, ": features are on ",
                    features.device(), " but labels on ", labels.device());
}

void check_tables(const char* op, const at::Tensor& count, const at::Tensor& mean,
                  const at::Tensor& m2, const at::Tensor& features) {
  TORCH_CHECK_VALUE(count.dim() == 1, op, ": count must have one dimension, got ", count.sizes());
  TORCH_CHECK_TYPE(count.scalar_type() == at::kLong, op, ": count must be int64, got ",
                   count.scalar_type());
  const auto type = mean.scalar_type();
  TORCH_CHECK_TYPE((type == at::kFloat || type == at::kDouble) && type == m2.scalar_type(), op,
                   ": mean and m2 must both be float32 or both float64, got ", type, " and ",
                   m2.scalar_type());
  for (const at::Tensor* table : {&mean, &m2}) {
    TORCH_CHECK_VALUE(table->dim() == 2 && table->size(0) == count.size(0) &&
                          table->size(1) == features.size(1),
                      op, ": expected mean and m2 of shape [", count.size(0), ", ",
                      features.size(1), "], one row for each count and one column for each of the "
                      "features, got ", table->sizes());
  }
  for (const at::Tensor* table : {&count, &mean, &m2}) {
    TORCH_CHECK_VALUE(table->device() == features.device(), op, ": features are on ",
                      features.device(), " but the tables on ", table->device());
  }
}

void check_update_tables(const char* op, const at::Tensor& count, const at::Tensor& mean,
                         const at::Tensor& m2, const at::Tensor& features) {
  check_tables(op, count, mean, m2, features);
  for (const at::Tensor* table : {&count, &mean, &m2}) {
    TORCH_CHECK_VALUE(table->is_contiguous(), op, ": the tables must be contiguous, got strides ",
                      table->strides());
  }
}

void mark_changed(const at::Tensor& count, const at::Tensor& mean, const at::Tensor& m2) {
  for (const at::Tensor* table : {&count, &mean, &m2}) table->unsafeGetTensorImpl()->bump_version();
}

at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
}

void check_label(const char* op, int64_t label, int64_t num_classes) {
  TORCH_CHECK_INDEX(0 <= label && label < num_classes, op, ": label ", label,
                    " is out of range: labels must lie in 0 ... ", num_classes - 1,
                    " (num_classes = ", num_classes, ").");
}

TORCH_LIBRARY_FRAGMENT(gencond, m) {
  m.def(
      "class_moments(Tensor features, Tensor labels, int num_classes) "
      "-> (Tensor count, Tensor mean, Tensor m2)");
  m.def(
      "class_moments_update_(Tensor(a!) count, Tensor(b!) mean, Tensor(c!) m2, Tensor features, "
      "Tensor labels) -> ()");
  m.def(
      "class_moments_backward(Tensor grad_mean, Tensor grad_m2, Tensor features, Tensor labels, "
      "Tensor count, Tensor mean) -> Tensor");
}

}  // namespace gencond
