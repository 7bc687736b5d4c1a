// Cuts work over classes of any sizes into tiles, which the threads share. A tile is a chunk of at
// most CHUNK_ROWS rows of one class by a block of at most BLOCK_COLUMNS columns. Tiles depend on
// the input, never on the number of threads, so the results do not either.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/parallel.h"

namespace gencond {

constexpr int64_t CHUNK_ROWS = 256;
constexpr int64_t BLOCK_COLUMNS = 1024;

struct Chunk {
  int64_t label;
  int64_t begin, end;  // into the rows sorted by class
  int64_t partial;     // its row in the partial results, or -1 if the chunk is the whole class
};

// A class of several chunks.
struct Merge {
  int64_t label;
  int64_t partial, chunks;  // the first row of its partial results, and their number
};

struct Plan {
  std::vector<Chunk> chunks;
  std::vector<int64_t> cost;  // [chunks + 1], running sum of their costs
  std::vector<Merge> merges;
  int64_t partials = 0;  // rows of partial results

  // Class c has the rows start[c] ... start[c + 1] - 1.
  Plan(const int64_t* start, int64_t num_classes) {
    cost.push_back(0);
    for (int64_t c = 0; c < num_classes; ++c) {
      const int64_t count = (start[c + 1] - start[c] + CHUNK_ROWS - 1) / CHUNK_ROWS;
      if (count > 1) merges.push_back({c, partials, count});
      for (int64_t begin = start[c]; begin < start[c + 1]; begin += CHUNK_ROWS) {
        const int64_t end = std::min(begin + CHUNK_ROWS, start[c + 1]);
        chunks.push_back({c, begin, end, count > 1 ? partials++ : -1});
        cost.push_back(cost.back() + end - begin + 1);  // 1 for the chunk itself
      }
    }
  }
};

inline int64_t column_blocks(int64_t columns) {
  return (columns + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
}

// Calls f(chunk, block) for every chunk and block of columns. All threads get about the same work.
template <typename F>
void for_each_tile(const Plan& plan, int64_t columns, const F& f) {
  const auto chunks = static_cast<int64_t>(plan.chunks.size());
  const int64_t total = plan.cost.back();
  const int64_t grain = std::max<int64_t>(1, GRAIN / std::min(columns, BLOCK_COLUMNS));
  at::parallel_for(0, total * column_blocks(columns), grain, [&](int64_t begin, int64_t end) {
    // a thread takes the tiles that start in its range of costs
    const auto first = std::lower_bound(plan.cost.begin(), plan.cost.end() - 1, begin % total);
    int64_t block = begin / total;
    int64_t chunk = first - plan.cost.begin();
    for (;; ++chunk) {
      if (chunk == chunks) {
        chunk = 0;
        ++block;
      }
      if (block * total + plan.cost[chunk] >= end) return;
      f(chunk, block);
    }
  });
}

// Calls f(merge, block) for every class of several chunks and every block of columns.
template <typename F>
void for_each_merge(const Plan& plan, int64_t columns, const F& f) {
  const int64_t blocks = column_blocks(columns);
  const auto merges = static_cast<int64_t>(plan.merges.size());
  at::parallel_for(0, merges * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(plan.merges[i / blocks], i % blocks);
  });
}

}  // namespace gencond
