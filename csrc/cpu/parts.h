// Work cut into parts of a fixed size, whatever the number of threads.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace gencond {

inline int64_t parts(int64_t size, int64_t part) { return (size + part - 1) / part; }

// On this thread alone if it is one of several at work already.
template <typename F>
void each(int64_t count, const F& f) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

// Calls f(first, size) for every part of the rows.
template <typename F>
void each_part(int64_t rows, int64_t part, const F& f) {
  each(parts(rows, part), [&](int64_t k) { f(k * part, std::min(part, rows - k * part)); });
}

}  // namespace gencond
