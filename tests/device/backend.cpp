// A CUDA device that is host memory: every op on a CUDA tensor runs on the CPU, on the same bytes.
//
// In order: hooks that let PyTorch find the device, a guard (current device, streams), an allocator, the
// recorder, the boxed fallback that runs an op by the kernel of the CPU, ops that must know of the device,
// and the module. Three lists say where CUDA is laxer or stricter than the rest: `free_to_mix`,
// `waits_for_size`, and the ops that are registered by name because they have a composite kernel.
// The names of the hooks move with PyTorch; written for 2.13.
#include <ATen/ATen.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/library.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <unordered_set>

namespace py = pybind11;
using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;

c10::DeviceIndex pretend_current();
void pretend_set(c10::DeviceIndex);

// --- host memory that counts as pinned: a copy from it need not wait
namespace pinned {
std::mutex mutex;
std::map<const char*, size_t> blocks;  // by their first byte

bool holds(const void* pointer) {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto* place = static_cast<const char*>(pointer);
  auto after = blocks.upper_bound(place);
  if (after == blocks.begin()) return false;
  const auto& [first, size] = *--after;
  return place < first + size;
}

void release(void* data) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    blocks.erase(static_cast<const char*>(data));
  }
  c10::free_cpu(data);
}

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* data = c10::alloc_cpu(size ? size : 1);
    const std::lock_guard<std::mutex> lock(mutex);
    blocks[static_cast<const char*>(data)] = size;
    return {data, data, &release, Device(DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t n) const override { std::memcpy(to, from, n); }
};
Allocator allocator;
}  // namespace pinned

namespace at {
struct PretendHooks final : CUDAHooksInterface {
  explicit PretendHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool hasCuDNN() const override { return true; }
  bool compiledWithCuDNN() const override { return true; }
  bool supportsDilatedConvolutionWithCuDNN() const override { return true; }
  bool supportsDepthwiseConvolutionWithCuDNN() const override { return false; }
  bool supportsBFloat16ConvolutionWithCuDNNv8() const override { return true; }
  long versionCuDNN() const override { return 91900; }
  long versionRuntimeCuDNN() const override { return 91900; }
  double batchnormMinEpsilonCuDNN() const override { return 0.0; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 2; }
  int getNumGPUs() const override { return 2; }
  DeviceIndex current_device() const override { return pretend_current(); }
  DeviceIndex getCurrentDevice() const override { return pretend_current(); }
  void setCurrentDevice(DeviceIndex i) const override { pretend_set(i); }
  DeviceIndex exchangeDevice(DeviceIndex i) const override { auto old = pretend_current(); pretend_set(i); return old; }
  DeviceIndex maybeExchangeDevice(DeviceIndex i) const override { return exchangeDevice(i); }
  void deviceSynchronize(DeviceIndex) const override {}
  bool isPinnedPtr(const void* pointer) const override { return pinned::holds(pointer); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned::allocator; }
  Device getDeviceFromPtr(void*) const override { return Device(DeviceType::CUDA, 0); }
};
C10_REGISTER_CLASS(CUDAHooksRegistry, CUDAHooks, PretendHooks)
}  // namespace at

namespace {

constexpr DeviceIndex COUNT = 2;  // a second one, to see that the first is chosen
thread_local DeviceIndex current = 0;
thread_local c10::StreamId streams[COUNT] = {};

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device d) const override {
    const Device old(DeviceType::CUDA, current);
    if (d.index() >= 0) current = d.index();
    return old;
  }
  Device getDevice() const override { return Device(DeviceType::CUDA, current); }
  void setDevice(Device d) const override { if (d.index() >= 0) current = d.index(); }
  void uncheckedSetDevice(Device d) const noexcept override { if (d.index() >= 0) current = d.index(); }
  c10::Stream getStream(Device d) const override {
    const auto i = d.index() < 0 ? current : d.index();
    return c10::Stream(c10::Stream::UNSAFE, Device(DeviceType::CUDA, i), streams[i]);
  }
  c10::Stream getDefaultStream(Device d) const override { return c10::Stream(c10::Stream::DEFAULT, d); }
  c10::Stream getNewStream(Device d, int) const override { return c10::Stream(c10::Stream::UNSAFE, d, 7); }
  c10::Stream getStreamFromGlobalPool(Device d, bool) const override { return c10::Stream(c10::Stream::UNSAFE, d, 7); }
  c10::Stream exchangeStream(c10::Stream s) const override {
    auto old = getStream(s.device());
    streams[s.device_index()] = s.id();
    return old;
  }
  void record(void**, const c10::Stream&, DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  DeviceIndex deviceCount() const noexcept override { return COUNT; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(DeviceIndex) const override {}
  double elapsedTime(void*, void*, DeviceIndex) const override { return 1.0; }
};
C10_REGISTER_GUARD_IMPL(CUDA, Guard)

std::atomic<int64_t> held{0}, peak{0};
struct Block { void* data; size_t size; };
void drop(void* context) {
  auto* block = static_cast<Block*>(context);
  held -= static_cast<int64_t>(block->size);
  c10::free_cpu(block->data);
  delete block;
}
struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* data = c10::alloc_cpu(size);
    const int64_t now = held += static_cast<int64_t>(size);
    int64_t most = peak;
    while (now > most && !peak.compare_exchange_weak(most, now)) {}
    return {data, new Block{data, size}, &drop, Device(DeviceType::CUDA, current)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
  void copy_data(void* to, const void* from, std::size_t n) const override { std::memcpy(to, from, n); }
};
Allocator allocator;

// --- telling Python what runs
py::object* listener = nullptr;
std::atomic<bool> listening{false};

void tell(const char* kind, const std::string& name, const std::string& detail) {
  if (!listening) return;
  py::gil_scoped_acquire gil;
  if (listener) (*listener)(kind, name, detail);
}

// --- the same bytes as a tensor of another device
struct Share { c10::Storage storage; };
void unshare(void* context) { delete static_cast<Share*>(context); }

at::Tensor moved(const at::Tensor& t, Device to) {
  const auto& storage = t.storage();
  auto* share = new Share{storage};
  c10::DataPtr data(storage.mutable_data(), share, &unshare, to);
  c10::Storage other(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data),
                     to.is_cpu() ? c10::GetCPUAllocator() : &allocator, true);
  auto keys = c10::DispatchKeySet(to.is_cpu() ? c10::DispatchKey::CPU : c10::DispatchKey::CUDA);
  auto result = at::detail::make_tensor<c10::TensorImpl>(std::move(other), keys, t.dtype());
  auto* impl = result.unsafeGetTensorImpl();
  impl->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  if (t.unsafeGetTensorImpl()->is_wrapped_number()) impl->set_wrapped_number(true);
  if (t.is_conj()) result._set_conj(true);
  if (t.is_neg()) result._set_neg(true);
  return result;
}

const std::unordered_set<std::string>& free_to_mix() {
  static const std::unordered_set<std::string> names = {
      "aten::copy_", "aten::_to_copy", "aten::_foreach_copy_", "aten::index.Tensor", "aten::index.Tensor_out", "aten::index_put_",
      "aten::_index_put_impl_", "aten::index_put", "aten::set_.source_Storage",
      "aten::set_.source_Storage_storage_offset"};
  return names;
}

const std::unordered_set<std::string>& waits_for_size() {
  static const std::unordered_set<std::string> names = {
      "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
      "aten::unique_dim_consecutive", "aten::equal", "aten::bincount", "aten::repeat_interleave.Tensor",
      "aten::nonzero_static", "aten::is_nonzero", "aten::_linalg_eigh.eigenvalues", "aten::linalg_eigh",
      "aten::_linalg_svd.U", "aten::linalg_cholesky_ex.L", "aten::_unique", "aten::multinomial", "aten::histc",
      "aten::allclose", "aten::_local_scalar_dense"};
  return names;
}

void check_mix(const std::string& name, const std::vector<at::Tensor>& seen) {
  const at::Tensor* cuda = nullptr;
  for (const auto& t : seen) if (t.is_cuda()) { cuda = &t; break; }
  for (const auto& t : seen) {
    if (t.is_cuda() && cuda && t.device() != cuda->device()) {
      TORCH_CHECK(false, "Expected all tensors to be on the same device, but found ", t.device(), " and ",
                  cuda->device(), " in ", name);
    }
    if (!t.is_cpu()) continue;
    if (free_to_mix().count(name)) continue;
    TORCH_CHECK(t.dim() == 0, "Expected all tensors to be on the same device, but found at least two "
                "devices, cuda:0 and cpu (argument of shape ", t.sizes(), " in ", name, ")");
    if (!t.unsafeGetTensorImpl()->is_wrapped_number()) tell("cpu_scalar", name, "");
  }
}

void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const size_t n = schema.arguments().size();
  const size_t base = stack->size() - n;
  const std::string name = op.operator_name().name +
      (op.operator_name().overload_name.empty() ? "" : "." + op.operator_name().overload_name);

  std::vector<std::pair<size_t, std::pair<at::Tensor, at::Tensor>>> written;  // argument, (cuda, cpu)
  std::vector<at::Tensor> seen;
  std::vector<at::Tensor> original(n);
  std::vector<std::vector<at::Tensor>> original_lists(n);
  Device device(DeviceType::CUDA, current);
  std::string sizes;
  bool boolean_index = false;
  const auto take = [&](const at::Tensor& t) -> at::Tensor {
    if (!t.defined()) return t;
    seen.push_back(t);
    if (!t.is_cuda()) return t;
    device = t.device();
    return moved(t, Device(DeviceType::CPU));
  };
  const std::string key = name;
  for (size_t i = 0; i < n; ++i) {
    auto& value = (*stack)[base + i];
    const auto* alias = schema.arguments()[i].alias_info();
    const bool writes = alias && alias->isWrite();
    if (value.isTensor()) {
      at::Tensor t = value.toTensor();
      original[i] = t;
      if (t.defined() && listening && sizes.size() < 120) {
        std::ostringstream out; out << t.scalar_type() << t.sizes(); sizes += out.str() + " ";
      }
      at::Tensor cpu = take(t);
      if (writes && t.defined() && t.is_cuda()) written.push_back({i, {t, cpu}});
      value = cpu;
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> list = value.toTensorVector(), out;
      original_lists[i] = list;
      for (const auto& t : list) {
        at::Tensor cpu = take(t);
        if (writes && t.defined() && t.is_cuda()) written.push_back({i, {t, cpu}});
        out.push_back(cpu);
      }
      value = c10::List<at::Tensor>(out);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> out;
      for (const std::optional<at::Tensor>& t : value.toOptionalTensorVector()) {
        if (!t) { out.push_back(std::nullopt); continue; }
        if (t->defined() && (t->scalar_type() == at::kBool || t->scalar_type() == at::kByte)) boolean_index = true;
        if (t->defined() && t->is_cpu() && t->dim() > 0) tell("index_from_host", name, "");
        out.push_back(take(*t));
      }
      value = out;
    } else if (value.isDevice()) {
      if (value.toDevice().is_cuda()) {
        device = value.toDevice();
        if (device.index() < 0) device = Device(DeviceType::CUDA, current);
        value = Device(DeviceType::CPU);
      }
    }
  }
  check_mix(key, seen);
  if (waits_for_size().count(key)) tell("sync", key, sizes);
  else if (boolean_index) tell("sync", key + " (boolean index)", sizes);
  else tell("op", key, sizes);

  op.callBoxed(stack);

  // cuDNN lays results out as the images or the weights lie, an op on a CPU may not
  if (name == "aten::convolution" || name == "aten::convolution_backward") {
    const size_t images = name == "aten::convolution" ? 0 : 1;
    const auto& x = original[images];
    const auto& w = original[images + 1];
    const bool last = x.dim() == 4 && (x.suggest_memory_format() == at::MemoryFormat::ChannelsLast ||
                                       w.suggest_memory_format() == at::MemoryFormat::ChannelsLast);
    const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    for (size_t r = stack->size() - schema.returns().size(); r < stack->size(); ++r) {
      auto& value = (*stack)[r];
      if (value.isTensor() && value.toTensor().defined() && value.toTensor().dim() == 4) {
        const at::Tensor t = value.toTensor();
        at::Tensor laid = at::empty(t.sizes(), t.options(), format);
        laid.copy_(t);
        value = laid;
      }
    }
  }

  // arguments that were made larger
  for (auto& [i, pair] : written) {
    auto& [cuda, cpu] = pair;
    auto* impl = cuda.unsafeGetTensorImpl();
    if (cpu.storage().data() != cuda.storage().data() || cpu.sizes() != cuda.sizes() ||
        cpu.strides() != cuda.strides()) {
      auto* share = new Share{cpu.storage()};
      c10::DataPtr data(cpu.storage().mutable_data(), share, &unshare, cuda.device());
      cuda.storage().set_data_ptr_noswap(std::move(data));
      cuda.storage().unsafeGetStorageImpl()->set_nbytes(cpu.storage().nbytes());
      impl->set_sizes_and_strides(cpu.sizes(), cpu.strides(), cpu.storage_offset());
    }
  }
  // results
  const auto& returns = schema.returns();
  const size_t first = stack->size() - returns.size();
  for (size_t r = 0; r < returns.size(); ++r) {
    auto& value = (*stack)[first + r];
    const auto* alias = returns[r].alias_info();
    if (value.isTensor()) {
      at::Tensor t = value.toTensor();
      if (!t.defined()) continue;
      if (alias && alias->isWrite()) {
        bool found = false;
        for (auto& [i, pair] : written) {
          if (pair.second.unsafeGetTensorImpl() == t.unsafeGetTensorImpl()) { value = pair.first; found = true; break; }
        }
        if (!found) for (size_t i = 0; i < n; ++i) {
          const auto* a = schema.arguments()[i].alias_info();
          if (a && a->isWrite() && original[i].defined()) { value = original[i]; found = true; break; }
        }
        continue;
      }
      if (t.is_cpu() && t.has_storage()) value = moved(t, device);
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> out;
      for (const auto& t : value.toTensorVector()) {
        out.push_back(t.defined() && t.is_cpu() ? moved(t, device) : t);
      }
      value = c10::List<at::Tensor>(out);
    }
  }
}

// --- what must know of the device itself
at::Tensor empty_memory_format(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                               std::optional<Device> device, std::optional<bool> pin, std::optional<at::MemoryFormat> format) {
  TORCH_CHECK(!pin.value_or(false), "only dense CPU tensors can be pinned");
  const Device d = device.value_or(Device(DeviceType::CUDA, current));
  const DeviceIndex before = current;
  if (d.index() >= 0) current = d.index();
  auto t = at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &allocator, c10::DispatchKeySet(c10::DispatchKey::CUDA),
                                     c10::dtype_or_default(dtype), format);
  current = before;
  return t;
}

at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<Device> device, std::optional<bool>) {
  const Device d = device.value_or(Device(DeviceType::CUDA, current));
  const DeviceIndex before = current;
  if (d.index() >= 0) current = d.index();
  auto t = at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), &allocator,
                                             c10::DispatchKeySet(c10::DispatchKey::CUDA), c10::dtype_or_default(dtype));
  current = before;
  return t;
}

at::Tensor on_cpu(const at::Tensor& t) { return t.is_cuda() ? moved(t, Device(DeviceType::CPU)) : t; }

at::Tensor& copy_(at::Tensor& self, const at::Tensor& src, bool non_blocking) {
  std::ostringstream out;
  out << src.scalar_type() << src.sizes();
  if (self.is_cuda() && src.is_cpu()) tell(non_blocking && src.is_pinned() ? "h2d_pinned" : non_blocking ? "h2d_async" : "h2d", "copy_", out.str());
  else if (self.is_cpu() && src.is_cuda()) tell("d2h", "copy_", out.str() + (non_blocking ? " non_blocking" : ""));
  else tell("op", "aten::copy_", out.str());
  if (self.is_cpu() && src.is_cuda() && non_blocking)
    tell("danger", "copy_", "device to pageable host without waiting");
  on_cpu(self).copy_(on_cpu(src));
  return self;
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  tell("sync", "aten::_local_scalar_dense", "");
  return at::_local_scalar_dense(on_cpu(self));
}

at::Tensor view(const at::Tensor& self, c10::SymIntArrayRef size) {
  return at::native::view(self, C10_AS_INTARRAYREF_SLOW(size));
}
at::Tensor as_strided(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
                      std::optional<c10::SymInt> offset) {
  std::optional<int64_t> at_offset;
  if (offset) at_offset = offset->guard_int(__FILE__, __LINE__);
  return at::native::as_strided_tensorimpl(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), at_offset);
}
at::Tensor reshape_alias(const at::Tensor& self, c10::SymIntArrayRef size, c10::SymIntArrayRef stride) {
  return at::native::_reshape_alias(self, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}
at::Tensor unfold(const at::Tensor& self, int64_t dimension, int64_t size, int64_t step) {
  return at::native::unfold(self, dimension, size, step);
}

const at::Tensor& resize_(const at::Tensor& self, c10::SymIntArrayRef size, std::optional<at::MemoryFormat> format) {
  auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  auto* impl = self.unsafeGetTensorImpl();
  int64_t count = 1;
  for (auto each : sizes) count *= each;
  const size_t bytes = (impl->storage_offset() + count) * self.element_size();
  if (self.storage().nbytes() < bytes) {
    auto data = allocator.allocate(bytes);
    if (self.storage().nbytes()) std::memcpy(data.get(), self.storage().data(), self.storage().nbytes());
    self.storage().set_data_ptr_noswap(std::move(data));
    self.storage().unsafeGetStorageImpl()->set_nbytes(bytes);
  }
  impl->set_sizes_contiguous(sizes);
  if (format) impl->empty_tensor_restride(*format);
  return self;
}

at::Tensor& set_storage_offset(at::Tensor& self, at::Storage storage, c10::SymInt offset, c10::SymIntArrayRef size,
                               c10::SymIntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), offset.guard_int(__FILE__, __LINE__));
  return self;
}
at::Tensor& set_storage(at::Tensor& self, at::Storage storage) {
  const int64_t count = storage.nbytes() / self.element_size();
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(storage));
  impl->set_storage_offset(0);
  impl->set_sizes_contiguous({count});
  return self;
}
at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& other) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(other.storage());
  impl->set_sizes_and_strides(other.sizes(), other.strides(), other.storage_offset());
  return self;
}

void assert_async_msg(const at::Tensor& self, std::string_view message) {
  tell("op", "aten::_assert_async", "");
  TORCH_CHECK(on_cpu(self).item().toBool(), "device-side assertion: ", message);
}
void assert_async(const at::Tensor& self) {
  tell("op", "aten::_assert_async", "");
  TORCH_CHECK(on_cpu(self).item().toBool(), "device-side assertion");
}
}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, m) {
  m.impl("empty.memory_format", &empty_memory_format);
  m.impl("empty_strided", &empty_strided);
  m.impl("copy_", &copy_);
  m.impl("_local_scalar_dense", &local_scalar_dense);
  m.impl("view", &view);
  m.impl("as_strided", &as_strided);
  m.impl("_reshape_alias", &reshape_alias);
  m.impl("unfold", &unfold);
  m.impl("resize_", &resize_);
  m.impl("set_.source_Storage_storage_offset", &set_storage_offset);
  m.impl("set_.source_Storage", &set_storage);
  m.impl("set_.source_Tensor", &set_tensor);
  m.impl("_assert_async.msg", &assert_async_msg);
  m.impl("_assert_async", &assert_async);
  // with a kernel of their own on CUDA, which stands before the composite one
  for (const char* name : {"convolution", "convolution_backward", "native_group_norm", "native_group_norm_backward",
                           "native_batch_norm", "native_batch_norm_backward", "native_layer_norm",
                           "native_layer_norm_backward", "_fused_adam_", "_fused_adamw_", "_fused_sgd_",
                           "_foreach_copy_", "_foreach_lerp_.Scalar", "_foreach_mul_.Tensor", "_foreach_mul_.Scalar",
                           "_foreach_norm.Scalar", "_foreach_add_.Scalar", "_foreach_add_.List", "_foreach_add.List",
                           "_foreach_addcdiv_.Scalar", "_foreach_addcdiv_.ScalarList", "_foreach_addcmul_.Scalar",
                           "_foreach_sqrt", "_foreach_div_.ScalarList", "_foreach_div_.Scalar", "_foreach_zero_",
                           "_foreach_lerp_.List", "_foreach_sub.List", "_foreach_neg", "_foreach_mul.List", "index_put_",
                           "_index_put_impl_", "embedding_dense_backward", "repeat_interleave.Tensor",
                           "nan_to_num"
}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&fallback>());
  }
}

c10::DeviceIndex pretend_current() { return current; }
void pretend_set(c10::DeviceIndex i) { if (i >= 0) current = i; }

PYBIND11_MODULE(pretended_cuda, m) {
  c10::SetAllocator(DeviceType::CUDA, &allocator);
  m.def("listen", [](py::object f) {
    delete listener;
    listener = f.is_none() ? nullptr : new py::object(f);
    listening = listener != nullptr;
  });
  m.def("current_device", [] { return static_cast<int>(current); });
  m.def("set_device", [](int i) { const int old = current; if (i >= 0) current = static_cast<DeviceIndex>(i); return old; });
  m.def("held", [] { return held.load(); });
  m.def("peak", [] { return peak.load(); });
  m.def("reset_peak", [] { peak = held.load(); });
}
