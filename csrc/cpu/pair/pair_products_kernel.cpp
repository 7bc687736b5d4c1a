// The matrix products of pair_loss. Compiled with CPU_CAPABILITY = DEFAULT, AVX2 and AVX512; all
// but the last function is internal.
#include <algorithm>

#include "cpu/pair/pair_kernel.h"
#include "cpu/vectors.h"

namespace gencond {
namespace {

using V = Vec<float>;
constexpr int LANES = V::size();

// Lane i of the result is the sum of the lanes of x[i]. Every round adds neighbouring lanes, which
// halves the number of vectors.
template <int COUNT = LANES>
inline V sums_of(V (&x)[LANES]) {
  if constexpr (COUNT == 1) {
    return x[0];
  } else {
#pragma GCC unroll 16
    for (int p = 0; p < COUNT / 2; ++p) {
      const auto [even, odd] = at::vec::deinterleave2(x[2 * p], x[2 * p + 1]);
      x[p] = even + odd;
    }
    return sums_of<COUNT / 2>(x);
  }
}

// Each round rotates the index (row, column), read as one binary number, right by one bit.
inline void transpose_square(const float* from, int64_t ld_from, float* to, int64_t ld_to) {
  V x[LANES], y[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) x[i] = V::loadu(from + i * ld_from);
#pragma GCC unroll 8
  for (int round = 1; round < LANES; round *= 2) {
#pragma GCC unroll 16
    for (int p = 0; p < LANES / 2; ++p) {
      const auto [even, odd] = at::vec::deinterleave2(x[2 * p], x[2 * p + 1]);
      y[p] = even;
      y[p + LANES / 2] = odd;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) x[i] = y[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) x[i].store(to + i * ld_to);
}

void transpose(const float* from, int64_t ld_from, int64_t rows, int64_t columns, float* to,
               int64_t ld_to) {
  for (int64_t i = 0; i < padded(rows); i += LANES) {
    for (int64_t j = 0; j < padded(columns); j += LANES) {
      transpose_square(from + i * ld_from + j, ld_from, to + j * ld_to + i, ld_to);
    }
  }
}

void mirror(float* square, int64_t size, int64_t ld) {
  for (int64_t i = 0; i < size; i += LANES) {
    for (int64_t r = i; r < i + LANES; ++r) {
      for (int64_t c = i; c < r; ++c) square[r * ld + c] = square[c * ld + r];
    }
    for (int64_t j = i + LANES; j < padded(size); j += LANES) {
      transpose_square(square + i * ld + j, ld, square + j * ld + i, ld);
    }
  }
}

// Rows of a and of b in one block of the Gram matrix, which has as many products as a vector lanes.
// The rows of b stay in the first-level cache while those of a stream past.
constexpr int GRAM_A = 2, GRAM_B = LANES / GRAM_A;
// Columns taken at a time, so that GRAM_B rows of them fit there.
constexpr int64_t GRAM_DEPTH = 512;

inline V dot_block(const float* const* a, const float* const* b, int64_t columns) {
  V sum[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) sum[i] = V(0);
  for (int64_t k = 0; k < columns; k += LANES) {
    V left[GRAM_A];
#pragma GCC unroll 4
    for (int r = 0; r < GRAM_A; ++r) left[r] = V::loadu(a[r] + k);
#pragma GCC unroll 16
    for (int c = 0; c < GRAM_B; ++c) {
      const V right = in_register(V::loadu(b[c] + k));
#pragma GCC unroll 4
      for (int r = 0; r < GRAM_A; ++r) {
        sum[r * GRAM_B + c] = at::vec::fmadd(left[r], right, sum[r * GRAM_B + c]);
      }
    }
  }
  return sums_of(sum);
}

inline void put_block(V sums, bool add, float* out, int64_t ld_out) {
  float block[GRAM_A][GRAM_B];
  sums.store(block);
  for (int r = 0; r < GRAM_A; ++r) {
    for (int c = 0; c < GRAM_B; ++c) {
      out[r * ld_out + c] = add ? out[r * ld_out + c] + block[r][c] : block[r][c];
    }
  }
}

void gram(const float* a, const float* b, int64_t ld, int64_t columns, int64_t rows_a,
          int64_t rows_b, bool diagonal, float* out, int64_t ld_out) {
  const float *left[GRAM_A], *right[GRAM_B];
  // at least once: products of no columns are zero
  for (int64_t from = 0; from == 0 || from < columns; from += GRAM_DEPTH) {
    const int64_t depth = std::min(GRAM_DEPTH, columns - from);
    for (int64_t j = 0; j < rows_b; j += GRAM_B) {
      for (int c = 0; c < GRAM_B; ++c) right[c] = b + std::min(j + c, rows_b - 1) * ld + from;
      const int64_t rows = diagonal ? std::min(rows_a, j + GRAM_B) : rows_a;
      for (int64_t i = 0; i < rows; i += GRAM_A) {
        for (int r = 0; r < GRAM_A; ++r) left[r] = a + std::min(i + r, rows_a - 1) * ld + from;
        put_block(dot_block(left, right, depth), from > 0, out + i * ld_out + j, ld_out);
      }
    }
  }
  const int64_t written = (rows_b + GRAM_B - 1) / GRAM_B * GRAM_B;
  for (int64_t i = 0; i < rows_a && written < padded(rows_b); ++i) {
    std::fill(out + i * ld_out + written, out + i * ld_out + padded(rows_b), 0.0f);
  }
}

// Rows of g, and vectors of its columns, whose sums stay in registers.
constexpr int ROWS = 6, VECTORS = LANES == 16 ? 4 : 2;
// Rows of a taken at a time, so that a panel of them stays in the first-level cache.
constexpr int64_t DEPTH = 64;

// R rows and N vectors of columns of g. A single vector may be the last one of a row, of which only
// `count` lanes are written. `add` adds the sums to g, else they replace it.
template <int R, int N, bool TRANSPOSED>
inline void multiply_block(const float* w, int64_t ld_w, int64_t depth, const float* a,
                           int64_t ld_a, int64_t column, int count, bool add, float* const* g) {
  V sum[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) sum[r][v] = V(0);
  }
  for (int64_t j = 0; j < depth; ++j) {
    V right[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) right[v] = V::loadu(a + j * ld_a + column + v * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V left(TRANSPOSED ? w[j * ld_w + r] : w[r * ld_w + j]);
#pragma GCC unroll 4
      for (int v = 0; v < N; ++v) sum[r][v] = at::vec::fmadd(left, right[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < N; ++v) {
      float* to = g[r] + column + v * LANES;
      // added at the end: sums of sums lose fewer digits than one long sum
      if (count == LANES) (add ? V::loadu(to) + sum[r][v] : sum[r][v]).store(to);
      else (add ? load_as<float>(to, count) + sum[r][v] : sum[r][v]).store(to, count);
    }
  }
}

template <int N, bool TRANSPOSED>
void multiply_panel(const float* w, int64_t ld_w, int64_t rows, int64_t depth, const float* a,
                    int64_t ld_a, int64_t column, int count, bool add, float* const* g) {
  for (int64_t from = 0; from < depth; from += DEPTH) {
    const int64_t part = std::min(DEPTH, depth - from);
    const auto block = [&](auto size, int64_t i) {
      multiply_block<decltype(size)::value, N, TRANSPOSED>(
          TRANSPOSED ? w + from * ld_w + i : w + i * ld_w + from, ld_w, part, a + from * ld_a, ld_a,
          column, count, add || from > 0, g + i);
    };
    int64_t i = 0;
    for (; rows - i >= ROWS; i += ROWS) block(std::integral_constant<int, ROWS>(), i);
    if (rows - i >= 4) {
      block(std::integral_constant<int, 4>(), i);
      i += 4;
    }
    if (rows - i >= 2) {
      block(std::integral_constant<int, 2>(), i);
      i += 2;
    }
    if (rows - i == 1) block(std::integral_constant<int, 1>(), i);
  }
}

void multiply(const float* w, int64_t ld_w, bool transposed, int64_t rows, int64_t depth,
              const float* a, int64_t ld_a, int64_t first, int64_t columns, bool add,
              float* const* g) {
  const auto panel = [&](auto vectors, int64_t column, int count) {
    constexpr int N = decltype(vectors)::value;
    if (transposed) multiply_panel<N, true>(w, ld_w, rows, depth, a, ld_a, column, count, add, g);
    else multiply_panel<N, false>(w, ld_w, rows, depth, a, ld_a, column, count, add, g);
  };
  const int64_t end = first + columns;
  int64_t column = first;
  for (; column + VECTORS * LANES <= end; column += VECTORS * LANES) {
    panel(std::integral_constant<int, VECTORS>(), column, LANES);
  }
  for (; column < end; column += LANES) {
    panel(std::integral_constant<int, 1>(), column,
          static_cast<int>(std::min<int64_t>(LANES, end - column)));
  }
}

const ProductKernels table{&gram, &transpose, &mirror, &multiply};

}  // namespace

GENCOND_EXPORT_TABLE(ProductKernels, gencond_pair_products, table)

}  // namespace gencond
