// What the C++ tests of the ops share: tensors in awkward places of memory, plain matrices for the
// expected results, and loops over instruction sets and numbers of threads.
//
// A test is a program: it calls run_tests and exits with 1 at the first failure. `PROGRAM SEED`
// draws other problems.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/isa.h"

namespace gencond::test {

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  text.precision(9);
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

template <typename... Parts>
void expect(bool holds, const Parts&... parts) {
  if (!holds) fail(parts...);
}

template <typename Error, typename F>
void expect_error(const char* what, const F& f) {
  try {
    f();
  } catch (const Error&) {
    return;
  }
  fail("no such error: ", what);
}

class Rng {
 public:
  explicit Rng(uint64_t seed) : bits_(seed) {}

  int64_t below(int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(bits_); }
  bool one_in(int64_t n) { return below(n) == 0; }
  double normal() { return std::normal_distribution<double>()(bits_); }

  template <typename T>
  T one_of(const std::vector<T>& values) {
    return values[below(static_cast<int64_t>(values.size()))];
  }

  template <typename T>
  void shuffle(std::vector<T>& values) {
    std::shuffle(values.begin(), values.end(), bits_);
  }

 private:
  std::mt19937_64 bits_;
};

// Precise enough to measure the errors of float64 results.
using Real = long double;

struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<Real> data;

  Matrix(int64_t rows, int64_t columns) : rows(rows), columns(columns), data(rows * columns) {}
  Real* operator[](int64_t i) { return data.data() + i * columns; }
  const Real* operator[](int64_t i) const { return data.data() + i * columns; }
};

// The widths and types that every op is tested with: one lane, nearly full vectors, several blocks.
inline const std::vector<int64_t> WIDTHS{0, 1, 3, 15, 16, 17, 33, 1023, 1024, 1025, 2049};
inline const std::vector<at::ScalarType> TYPES{at::kFloat, at::kDouble, at::kHalf, at::kBFloat16};

// How a matrix lies in memory. The allocation always ends with the last element.
enum class Place { DENSE, OFFSET, SPACED_ROWS, SPACED_COLUMNS, TRANSPOSED, ONE_ROW };
inline const std::vector<Place> PLACES{Place::DENSE,          Place::OFFSET,     Place::SPACED_ROWS,
                                       Place::SPACED_COLUMNS, Place::TRANSPOSED, Place::ONE_ROW};

// The numbers: around 0 or 100, below the least normal number, or some NaN and infinite.
enum class Values { NORMAL, OFFSET, DENORMAL, SPECIAL };
inline const std::vector<Values> ALL_VALUES{Values::NORMAL, Values::OFFSET, Values::DENORMAL,
                                            Values::SPECIAL};

template <typename F>
void with_type(at::ScalarType type, const F& f) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, "test", [&] { f(scalar_t{}); });
}

// The type that sums of `type` are kept in.
inline Real epsilon(at::ScalarType type) {
  return type == at::kDouble ? 0x1p-52L : 0x1p-23L;
}

inline at::Tensor tensor_of(const Matrix& x, at::ScalarType type, Place place = Place::DENSE) {
  int64_t offset = 0, row = x.columns, column = 1;
  if (place == Place::OFFSET) offset = 1;
  if (place == Place::SPACED_ROWS) row += 3;
  if (place == Place::SPACED_COLUMNS) row *= 2, column = 2;
  if (place == Place::TRANSPOSED) row = 1, column = x.rows;
  if (place == Place::ONE_ROW) row = 0;
  const bool empty = x.rows == 0 || x.columns == 0;
  const int64_t size = empty ? offset : offset + (x.rows - 1) * row + (x.columns - 1) * column + 1;
  const at::Tensor storage = at::empty({size}, type);
  with_type(type, [&](auto zero) {
    using T = decltype(zero);
    T* to = storage.mutable_data_ptr<T>() + offset;
    for (int64_t i = 0; i < x.rows; ++i) {
      for (int64_t j = 0; j < x.columns; ++j) {
        to[i * row + j * column] = static_cast<T>(static_cast<double>(x[i][j]));
      }
    }
  });
  return storage.as_strided({x.rows, x.columns}, {row, column}, offset);
}

inline at::Tensor tensor_of(const std::vector<int64_t>& x, int64_t stride = 1) {
  const auto size = static_cast<int64_t>(x.size());
  const at::Tensor storage = at::empty({size == 0 ? 0 : (size - 1) * stride + 1}, at::kLong);
  for (int64_t i = 0; i < size; ++i) storage.mutable_data_ptr<int64_t>()[i * stride] = x[i];
  return storage.as_strided({size}, {stride});
}

// The values, rounded to the type of the tensor.
inline Matrix matrix_of(const at::Tensor& tensor) {
  Matrix x(tensor.size(0), tensor.size(1));
  with_type(tensor.scalar_type(), [&](auto zero) {
    const auto* from = tensor.const_data_ptr<decltype(zero)>();
    for (int64_t i = 0; i < x.rows; ++i) {
      for (int64_t j = 0; j < x.columns; ++j) {
        x[i][j] = static_cast<double>(from[i * tensor.stride(0) + j * tensor.stride(1)]);
      }
    }
  });
  return x;
}

inline std::vector<int64_t> vector_of(const at::Tensor& tensor) {
  const auto* from = tensor.const_data_ptr<int64_t>();
  return {from, from + tensor.numel()};
}

inline Matrix random_matrix(Rng& rng, int64_t rows, int64_t columns,
                            Values values = Values::NORMAL, at::ScalarType type = at::kFloat) {
  Real least = 0;
  with_type(type, [&](auto zero) {
    least = static_cast<double>(std::numeric_limits<decltype(zero)>::min());
  });
  Matrix x(rows, columns);
  for (Real& value : x.data) {
    value = rng.normal();
    if (values == Values::OFFSET) value += 100;
    if (values == Values::DENORMAL) value *= least / 16;
    if (values == Values::SPECIAL && rng.one_in(20)) {
      value = rng.one_of<Real>({NAN, INFINITY, -INFINITY, 0.0, -0.0});
    }
  }
  return x;
}

// Labels below `classes`: even, uneven, in turn, or all the same.
inline std::vector<int64_t> random_labels(Rng& rng, int64_t rows, int64_t classes) {
  std::vector<int64_t> labels(rows);
  const int64_t way = rng.below(4), only = rng.below(classes);
  for (int64_t i = 0; i < rows; ++i) {
    labels[i] = way == 0   ? rng.below(classes)
                : way == 1 ? rng.below(rng.below(classes) + 1)
                : way == 2 ? i % classes
                           : only;
  }
  return labels;
}

// The op of this name, with the C++ signature of its schema.
template <typename Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

inline void expect_close(Real found, Real wanted, Real allowed, const char* what, int64_t i = 0,
                         int64_t j = 0) {
  const bool same = std::isfinite(wanted) ? std::fabs(found - wanted) <= allowed
                    : std::isnan(wanted)  ? std::isnan(found)
                                          : found == wanted;
  expect(same, what, "[", i, ", ", j, "] is ", found, " instead of ", wanted, ", with ", allowed,
         " allowed");
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() && a.is_contiguous() &&
         b.is_contiguous() &&
         (a.numel() == 0 || std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0);
}

using Results = std::vector<at::Tensor>;

// Checks the results of `op` with every instruction set that the machine has, and that several
// threads give the same bits as one.
template <typename Op, typename Check>
void run_everywhere(const Op& op, const Check& check, const std::vector<int>& more = {2, 3}) {
  for (const std::string& isa : isa_names()) {
    try {
      set_isa(isa);
      at::set_num_threads(1);
      const Results results = op();
      check(results);
      for (const int threads : more) {
        at::set_num_threads(threads);
        const Results again = op();
        for (size_t k = 0; k < results.size(); ++k) {
          expect(same_bits(results[k], again[k]), "result ", k, " depends on the threads");
        }
      }
    } catch (const std::runtime_error& error) {
      fail(isa, ": ", error.what());
    }
  }
}

struct Test {
  const char* name;
  std::function<void(Rng&)> run;
};

inline int run_tests(int argc, char** argv, const std::vector<Test>& tests) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0;
  for (const Test& test : tests) {
    std::printf("%s, seed %llu: ", test.name, static_cast<unsigned long long>(seed));
    std::fflush(stdout);  // a sanitizer ends the program where it stands
    Rng rng(seed);
    try {
      test.run(rng);
    } catch (const std::exception& error) {
      std::printf("%s\n", error.what());
      return 1;
    }
    std::printf("passed\n");
  }
  return 0;
}

}  // namespace gencond::test
