// The Python module gencond_fast._C. Loading it registers the ops; its functions describe the
// build. It includes no torch header, because torch bundles a pybind11 of its own.
#include <pybind11/pybind11.h>

#include <string>

#include "cpu/isa.h"

namespace py = pybind11;

namespace {

py::dict build_info() {
  std::string isas;
  for (const auto& name : gencond::isa_names()) isas += (isas.empty() ? "" : ",") + name;
  py::dict info;
  info["torch"] = GENCOND_TORCH_VERSION;
  info["compiler"] = __VERSION__;
  info["cpu_isas"] = isas;
#ifdef GENCOND_CUDA
  info["cuda"] = "yes";
#else
  info["cuda"] = "no";
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.def("build_info", &build_info,
        "What this build was made with, and the instruction sets that it can use here.");
  m.def("cpu_isa", &gencond::active_isa_name, "The instruction set the CPU kernels run with.");
  m.def("set_cpu_isa", &gencond::set_isa, py::arg("name"),
        "Run the CPU kernels with another instruction set; for tests and benchmarks.");
}
