#include "ops/class_moments.h"

#include <torch/library.h>

namespace gencond {

void check_samples(const at::Tensor& features, const at::Tensor& labels) {
  TORCH_CHECK_VALUE(features.dim() == 2, "class_moments: features must have two dimensions, got ",
                    features.sizes());
  TORCH_CHECK_VALUE(labels.dim() == 1 && labels.size(0) == features.size(0),
                    "class_moments: labels must have one entry for each of the ", features.size(0),
                    " rows of features, got shape ", labels.sizes());
  TORCH_CHECK_TYPE(labels.scalar_type() == at::kLong, "class_moments: labels must be int64, got ",
                   labels.scalar_type());
  TORCH_CHECK_VALUE(labels.device() == features.device(), "class_moments: features are on ",
                    features.device(), " but labels on ", labels.device());
}

at::Tensor with_dense_rows(const at::Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : x.contiguous();
}

void check_label(int64_t label, int64_t num_classes) {
  TORCH_CHECK_INDEX(0 <= label && label < num_classes, "class_moments: label ", label,
                    " is out of range: labels must lie in 0 ... ", num_classes - 1,
                    " (num_classes = ", num_classes, ").");
}

TORCH_LIBRARY_FRAGMENT(gencond, m) {
  m.def(
      "class_moments(Tensor features, Tensor labels, int num_classes) "
      "-> (Tensor count, Tensor mean, Tensor m2)");
  m.def(
      "class_moments_backward(Tensor grad_mean, Tensor grad_m2, Tensor features, Tensor labels, "
      "Tensor count, Tensor mean) -> Tensor");
}

}  // namespace gencond
