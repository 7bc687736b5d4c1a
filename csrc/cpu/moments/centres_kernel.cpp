// Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and AVX512; all but the last function is internal.
#include "cpu/moments/centres_kernel.h"

#include <algorithm>

#include "cpu/vectors.h"

namespace gencond {
namespace {

constexpr int GROUP = 8;

template <typename V, int ROWS, typename Load>
inline V deviations(V origin, const Load& load) {
  V x[ROWS];
  for (int r = 0; r < ROWS; ++r) x[r] = load(r) - origin;
  return tree_sum<V, ROWS>(x);
}

// Adds row[0 ... ROWS - 1], and fetches the next ones, row[ROWS ... 2 ROWS - 1]: rows lie anywhere
// in memory, so the hardware cannot guess them.
template <typename T, int ROWS>
inline void add_rows(const T* const* row, int64_t columns, const accumulate_t<T>* shift,
                     accumulate_t<T>* sum) {
  using A = accumulate_t<T>;
  using V = Vec<A>;
  int64_t j = 0;
  for (; j + V::size() <= columns; j += V::size()) {
    const V added = deviations<V, ROWS>(V::loadu(shift + j), [&](int r) {
      __builtin_prefetch(row[ROWS + r] + j);
      return load_as<T>(row[r] + j);
    });
    (V::loadu(sum + j) + added).store(sum + j);
  }
  if (const int rest = static_cast<int>(columns - j); rest > 0) {
    const V added = deviations<V, ROWS>(load_as<A>(shift + j, rest),
                                        [&](int r) { return load_as<T>(row[r] + j, rest); });
    (load_as<A>(sum + j, rest) + added).store(sum + j, rest);
  }
}

template <typename T>
void sum(const T* x, int64_t stride, const int64_t* order, int64_t rows, int64_t columns,
         const accumulate_t<T>* shift, accumulate_t<T>* sum) {
  std::fill(sum, sum + columns, 0);
  const T* row[2 * GROUP];
  for (int64_t i = 0; i < rows;) {
    for (int r = 0; r < 2 * GROUP; ++r) {
      row[r] = x + order[i + r < rows ? i + r : rows - 1] * stride;
    }
    if (rows - i >= GROUP) {
      add_rows<T, GROUP>(row, columns, shift, sum);
      i += GROUP;
    } else {
      add_rows<T, 1>(row, columns, shift, sum);
      ++i;
    }
  }
}

const CentresTable table{{&sum<float>}, {&sum<double>}, {&sum<c10::Half>}, {&sum<c10::BFloat16>}};

}  // namespace

GENCOND_EXPORT_TABLE(CentresTable, gencond_centres_table, table)

}  // namespace gencond
