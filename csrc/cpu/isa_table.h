// How callers reach kernels that are compiled once per instruction set. Each object file of a
// source file exports one function, NAME_DEFAULT, NAME_AVX2 or NAME_AVX512, which returns a table
// of function pointers.
#pragma once

#include "cpu/isa.h"

#define GENCOND_JOIN_(a, b) a##b
#define GENCOND_JOIN(a, b) GENCOND_JOIN_(a, b)

// For the header of the kernels.
#define GENCOND_DECLARE_TABLE(Table, name) \
  extern "C" {                             \
  const Table* name##_DEFAULT();           \
  const Table* name##_AVX2();              \
  const Table* name##_AVX512();            \
  }

// For the source file of the kernels.
#define GENCOND_EXPORT_TABLE(Table, name, table) \
  extern "C" const Table* GENCOND_JOIN(name##_, CPU_CAPABILITY)() { return &(table); }

// For their callers: the table of the instruction set in use.
#ifdef GENCOND_HAVE_AVX512
#define GENCOND_ACTIVE_TABLE(name)                       \
  (*(active_isa() == Isa::AVX512 ? name##_AVX512         \
     : active_isa() == Isa::AVX2 ? name##_AVX2           \
                                 : name##_DEFAULT)())
#else
#define GENCOND_ACTIVE_TABLE(name) (*name##_DEFAULT())
#endif
