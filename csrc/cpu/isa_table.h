// How a file of kernels, compiled once per instruction set, is reached: each of its objects exports
// one function, NAME_DEFAULT, NAME_AVX2 or NAME_AVX512, that returns a table of function pointers.
#pragma once

#include "cpu/isa.h"

#define GENCOND_JOIN_(a, b) a##b
#define GENCOND_JOIN(a, b) GENCOND_JOIN_(a, b)

// In the header of the kernels.
#define GENCOND_DECLARE_TABLE(Table, name) \
  extern "C" {                             \
  const Table* name##_DEFAULT();           \
  const Table* name##_AVX2();              \
  const Table* name##_AVX512();            \
  }

// In the file of the kernels.
#define GENCOND_EXPORT_TABLE(Table, name, table) \
  extern "C" const Table* GENCOND_JOIN(name##_, CPU_CAPABILITY)() { return &(table); }

// In their caller: the table of the instruction set in use.
#ifdef GENCOND_HAVE_AVX512
#define GENCOND_ACTIVE_TABLE(name)                       \
  (*(active_isa() == Isa::AVX512 ? name##_AVX512         \
     : active_isa() == Isa::AVX2 ? name##_AVX2           \
                                 : name##_DEFAULT)())
#else
#define GENCOND_ACTIVE_TABLE(name) (*name##_DEFAULT())
#endif
