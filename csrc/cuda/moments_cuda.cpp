// class_moments on CUDA tensors: ATen sorts the rows, and the kernels of moments_kernel.h run on
// the current stream. Nothing waits for the device. Contract: ops/class_moments.h, but a label out
// of range is a device-side assertion, as in PyTorch's own indexing.
#include <ATen/Functions.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <tuple>

#include "cuda/kernel_type.h"
#include "cuda/moments_kernel.h"
#include "ops/class_moments.h"

namespace gencond {
namespace {

cuda::MomentsInput describe(const at::Tensor& rows, const at::Tensor& order,
                            const at::Tensor& offsets) {
  return {kernel_type("class_moments", rows.scalar_type()),
          rows.const_data_ptr(),
          rows.stride(0),
          rows.size(0),
          rows.size(1),
          order.defined() ? order.const_data_ptr<int64_t>() : nullptr,
          offsets.const_data_ptr<int64_t>(),
          offsets.size(0) - 1};
}

at::Tensor sums_like(const at::Tensor& features, at::IntArrayRef shape) {
  const bool wide = features.scalar_type() == at::kDouble;
  return at::empty(shape, features.options().dtype(wide ? at::kDouble : at::kFloat));
}

// Rows class after class, and where each class starts among them.
struct ClassRows {
  at::Tensor order, offsets;

  ClassRows(const at::Tensor& labels, int64_t num_classes) {
    const at::Tensor inside = labels.ge(0).logical_and_(labels.lt(num_classes)).all();
    at::_assert_async(inside, "class_moments: a label is out of range");
    at::Tensor sorted;
    std::tie(sorted, order) =
        at::sort(labels, /*stable=*/true, /*dim=*/0, /*descending=*/false);
    offsets = at::searchsorted(sorted, at::arange(num_classes + 1, labels.options()));
  }
};

at::Tensor workspace_for(const at::Tensor& rows) {
  return sums_like(rows, {cuda::workspace_elements(rows.size(0), rows.size(1))});
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> class_moments(const at::Tensor& features,
                                                             const at::Tensor& labels,
                                                             int64_t num_classes) {
  check_samples("class_moments", features, labels);
  TORCH_CHECK_VALUE(num_classes >= 0, "class_moments: num_classes must not be negative, got ",
                    num_classes);
  const c10::cuda::CUDAGuard guard(features.device());
  const ClassRows classes(labels, num_classes);
  const at::Tensor rows = with_dense_rows(features);
  at::Tensor mean = sums_like(features, {num_classes, features.size(1)});
  at::Tensor m2 = at::empty_like(mean);
  cuda::class_moments(describe(rows, classes.order, classes.offsets),
                      workspace_for(rows).mutable_data_ptr(), mean.mutable_data_ptr(),
                      m2.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {classes.offsets.diff(), mean, m2};
}

void class_moments_update_(const at::Tensor& count, const at::Tensor& mean, const at::Tensor& m2,
                           const at::Tensor& features, const at::Tensor& labels) {
  constexpr const char* OP = "class_moments_update_";
  check_samples(OP, features, labels);
  check_update_tables(OP, count, mean, m2, features);
  mark_changed(count, mean, m2);
  const c10::cuda::CUDAGuard guard(features.device());
  const ClassRows classes(labels, count.size(0));
  const at::Tensor rows = with_dense_rows(features);
  cuda::class_moments_update(describe(rows, classes.order, classes.offsets),
                             count.const_data_ptr<int64_t>(), mean.scalar_type() == at::kDouble,
                             workspace_for(rows).mutable_data_ptr(), mean.mutable_data_ptr(),
                             m2.mutable_data_ptr(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  count.add_(classes.offsets.diff());
}

at::Tensor class_moments_backward(const at::Tensor& grad_mean, const at::Tensor& grad_m2,
                                  const at::Tensor& features, const at::Tensor& labels,
                                  const at::Tensor& count, const at::Tensor& mean) {
  check_samples("class_moments_backward", features, labels);
  const std::vector<int64_t> shape = {count.numel(), features.size(1)};
  for (const at::Tensor* table : {&grad_mean, &grad_m2, &mean}) {
    TORCH_CHECK_VALUE(table->sizes() == at::IntArrayRef(shape),
                      "class_moments_backward: expected shape ", at::IntArrayRef(shape), ", got ",
                      table->sizes());
  }
  const c10::cuda::CUDAGuard guard(features.device());
  const at::Tensor rows = with_dense_rows(features), flat = labels.contiguous();
  const at::Tensor g_mean = grad_mean.contiguous(), g_m2 = grad_m2.contiguous();
  const at::Tensor means = mean.contiguous();
  const at::Tensor offsets = at::constant_pad_nd(count.cumsum(0), {1, 0});
  at::Tensor grad = at::empty(features.sizes(), features.options());
  cuda::class_moments_backward(describe(rows, {}, offsets), flat.const_data_ptr<int64_t>(),
                               g_mean.const_data_ptr(), g_m2.const_data_ptr(),
                               means.const_data_ptr(), grad.mutable_data_ptr(),
                               c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return grad;
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CUDA, m) {
  m.impl("class_moments", &class_moments);
  m.impl("class_moments_update_", &class_moments_update_);
  m.impl("class_moments_backward", &class_moments_backward);
}

}  // namespace gencond
