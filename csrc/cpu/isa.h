// The instruction set that the CPU kernels use. Needs no torch header, so module.cpp can include
// it.
#pragma once

#include <string>
#include <vector>

namespace gencond {

enum class Isa { DEFAULT, AVX2, AVX512 };

// The instruction set in use. At first it is the best one that this build has and PyTorch reports
// for the machine; the environment variable ATEN_CPU_CAPABILITY can lower it.
Isa active_isa();

std::string active_isa_name();

// Names of all that this build has and the machine can run, lowest first.
std::vector<std::string> isa_names();

// Use another instruction set from now on; std::invalid_argument if it is not among isa_names().
void set_isa(const std::string& name);

}  // namespace gencond
