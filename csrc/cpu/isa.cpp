#include "cpu/isa.h"

#include <ATen/Version.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>

namespace gencond {
namespace {

constexpr const char* NAMES[] = {"DEFAULT", "AVX2", "AVX512"};

// PyTorch's names may have suffixes (AVX512_VNNI, ...); an unknown name means DEFAULT
Isa best_isa() {
#ifdef GENCOND_HAVE_AVX512
  const std::string machine = at::get_cpu_capability();
  if (machine.rfind("AVX512", 0) == 0) return Isa::AVX512;
  if (machine.rfind("AVX2", 0) == 0) return Isa::AVX2;
#endif
  return Isa::DEFAULT;
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

}  // namespace

Isa active_isa() { return current().load(std::memory_order_relaxed); }

std::string active_isa_name() { return NAMES[static_cast<int>(active_isa())]; }

std::vector<std::string> isa_names() {
  return {NAMES, NAMES + static_cast<int>(best_isa()) + 1};
}

void set_isa(const std::string& name) {
  const auto names = isa_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    throw std::invalid_argument("set_cpu_isa: " + name + " is not available on this machine.");
  }
  current().store(static_cast<Isa>(found - names.begin()), std::memory_order_relaxed);
}

}  // namespace gencond
