// The instruction set the CPU kernels run with. Knows nothing of torch, so module.cpp can use it.
#pragma once

#include <string>
#include <vector>

namespace gencond {

enum class Isa { DEFAULT, AVX2, AVX512 };

// The instruction set in use: at first the best this build has and PyTorch reports for the machine,
// so the environment variable ATEN_CPU_CAPABILITY lowers it.
Isa active_isa();

std::string active_isa_name();

// Names of all this build has and the machine can run, lowest first.
std::vector<std::string> isa_names();

// Use another instruction set from now on; std::invalid_argument if it is not among isa_names().
void set_isa(const std::string& name);

}  // namespace gencond
