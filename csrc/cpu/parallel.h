// Loops that the threads share. The pieces of work have a fixed size, whatever the number of
// threads, so that every result is summed in the same order.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace gencond {

// Below this many elements a second thread costs more than it saves.
constexpr int64_t GRAIN = 32768;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls f(i) for i = 0 ... count - 1. If the caller is itself one of several threads of a parallel
// loop, it does all the work alone.
template <typename F>
void parallel_each(int64_t count, const F& f) {
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

// Cuts the rows into chunks of `size` rows and calls f(first row, rows) for every chunk, the last
// of which may be shorter. Runs as parallel_each does.
template <typename F>
void parallel_chunks(int64_t rows, int64_t size, const F& f) {
  parallel_each(divide_up(rows, size),
                [&](int64_t k) { f(k * size, std::min(size, rows - k * size)); });
}

}  // namespace gencond
