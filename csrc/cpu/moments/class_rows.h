// Row numbers sorted by class, in input order within a class: a counting sort.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "cpu/parallel.h"
#include "ops/class_moments.h"

namespace gencond {

class ClassRows {
 public:
  // Raises IndexError, which names the op, for a label that is not in 0 ... num_classes - 1.
  ClassRows(const char* op, const int64_t* labels, int64_t rows, int64_t num_classes)
      : start_(num_classes + 1), order_(std::make_unique_for_overwrite<int64_t[]>(rows)) {
    // every chunk counts its own classes; a stable sort has one result, whatever the chunks are
    const int64_t least = std::max<int64_t>(4096, num_classes);
    const int64_t chunks = std::clamp<int64_t>(rows / least, 1, at::get_num_threads());
    const int64_t size = std::max<int64_t>(1, divide_up(rows, chunks));
    std::vector<int64_t> next(chunks * num_classes);
    parallel_chunks(rows, size, [&](int64_t first, int64_t count) {
      int64_t* seen = next.data() + first / size * num_classes;
      for (int64_t i = first; i < first + count; ++i) {
        check_label(op, labels[i], num_classes);
        ++seen[labels[i]];
      }
    });
    int64_t total = 0;
    for (int64_t c = 0; c < num_classes; ++c) {
      start_[c] = total;
      for (int64_t k = 0; k < chunks; ++k) {
        total += std::exchange(next[k * num_classes + c], total);
      }
    }
    start_[num_classes] = total;
    parallel_chunks(rows, size, [&](int64_t first, int64_t count) {
      int64_t* to = next.data() + first / size * num_classes;
      for (int64_t i = first; i < first + count; ++i) order_[to[labels[i]]++] = i;
    });
  }

  int64_t classes() const { return static_cast<int64_t>(start_.size()) - 1; }
  int64_t rows() const { return start_.back(); }
  int64_t count(int64_t c) const { return start_[c + 1] - start_[c]; }

  const int64_t* start() const { return start_.data(); }  // [C + 1], where classes start in order
  const int64_t* order() const { return order_.get(); }   // [N]

 private:
  std::vector<int64_t> start_;
  std::unique_ptr<int64_t[]> order_;
};

}  // namespace gencond
