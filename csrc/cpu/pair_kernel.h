// The inner loops of pair_loss on raw pointers, compiled once per instruction set. The maths is in
// cpu/pair_class.h.
//
// An operand is a matrix of float32 rows `ld` apart. Its columns, and those of a matrix of pairs,
// are padded to a multiple of PAD: with zeros in an operand, and pairs with the padding are
// infinitely far apart.
#pragma once

#include <cstdint>

#include "cpu/isa_table.h"

namespace gencond {

constexpr int64_t PAD = 16;
// Pairs are worked through in squares of this side, which fit the second-level cache.
constexpr int64_t TILE = 128;
// Pairs nearer than this share of their squared norms lose too many digits in a Gram matrix.
constexpr float NEAR = 1e-3f;

inline int64_t padded(int64_t size) { return (size + PAD - 1) / PAD * PAD; }

// Reads features of one type; `row` and `ahead` count elements.
struct RowReader {
  // a[0 ... padded) = the row widened, zeros behind it; returns its squared norm. Fetches on the
  // way what is wanted soon: the row `ahead` to read, and `target`, of as many floats, to write.
  float (*copy)(const void* x, int64_t row, int64_t ahead, int64_t columns, float* a,
                const float* target);
  bool (*has_nan)(const void* x, int64_t row, int64_t columns);
};

struct RowKernels {
  RowReader f32, f16, bf16;

  // mean[j] of scale[i] a[i][j] over the rows, where it makes up most of them; else 0, for then to
  // subtract it would only cost near-duplicates their last digits.
  void (*mean)(const float* a, int64_t ld, const float* scale, int64_t rows, int64_t columns,
               float* mean);

  // a = scale a - shift; returns its squared norm.
  float (*centre)(float* a, float scale, const float* shift, int64_t columns);

  // g += weight (b - a), of `columns` that need no padding.
  void (*add_difference)(float* g, const float* b, const float* a, float weight, int64_t columns);

  // g -= weight a, of `columns` that need no padding.
  void (*subtract)(float* g, const float* a, float weight, int64_t columns);

  // With u = a + shift, a unit vector or zero: g = scale (g - (u . g) u).
  void (*project)(float* g, const float* a, const float* shift, float scale, int64_t columns);
};

struct ProductKernels {
  // out[i][j] = a_i . b_j; of a diagonal tile (a = b) only j >= i is sure to be written. Writes
  // whole groups of PAD rows and columns.
  void (*gram)(const float* a, const float* b, int64_t ld, int64_t columns, int64_t rows_a,
               int64_t rows_b, bool diagonal, float* out, int64_t ld_out);

  // to[j][i] = from[i][j], in whole groups of PAD rows and columns.
  void (*transpose)(const float* from, int64_t ld_from, int64_t rows, int64_t columns, float* to,
                    int64_t ld_to);

  // Below the diagonal of a square what is above it, in whole groups of PAD rows and columns.
  void (*mirror)(float* square, int64_t size, int64_t ld);

  // g[i] = sum over j < depth of w[i][j] a_j, or w[j][i] a_j if transposed, or that added to it;
  // `columns` of a row of g need no padding, and are those from `first` on.
  void (*multiply)(const float* w, int64_t ld_w, bool transposed, int64_t rows, int64_t depth,
                   const float* a, int64_t ld_a, int64_t first, int64_t columns, bool add,
                   float* const* g);
};

// One tile of pairs: rows x columns of them (columns padded), `ld` apart.
struct PairTile {
  float* data;
  int64_t ld, rows, columns;
};

struct WeightKernels {
  // Turns a_i . b_j into |a_i - b_j|^2, given the squared norms. Near pairs are computed anew and
  // get a minus sign, which their weights keep. Returns whether there are any.
  bool (*distances)(const PairTile& tile, const float* a, const float* b, int64_t ld,
                    int64_t columns, const float* norm_a, const float* norm_b);

  // Turn squared distances into weights and return the sum of the terms: exp(-factor d2) with
  // weight `scale` times itself; max(0, margin - d)^2 with weight scale max(0, margin - d) / d.
  double (*rbf)(const PairTile& tile, float factor, float scale);
  double (*hinge)(const PairTile& tile, float margin, float scale);

  // Turns squared distances into scale (p_ij + p_ji), where
  // p_ij = exp(factor (deficit_j - d2_ij - top_i) - log_total_i).
  void (*infonce)(const PairTile& tile, float factor, float scale, const float* deficit_a,
                  const float* deficit_b, const float* top_a, const float* top_b,
                  const float* log_total_a, const float* log_total_b);

  // Of one row of squared distances, joined to what was seen of it before: the greatest
  // deficit_j - d2_j and the sum of exp(factor (deficit_j - d2_j - top)).
  void (*soft_top)(const float* d2, const float* deficit, int64_t columns, float factor, float* top,
                   double* total);

  // The same with the number of the first j to reach it, counted from `first`.
  void (*hard_top)(const float* d2, const float* deficit, int64_t columns, int64_t first,
                   float* top, int64_t* which);

  // The first column from `from` on with a negative weight, or `columns`.
  int64_t (*find_negative)(const float* w, int64_t from, int64_t columns);
  void (*clear_negative)(const PairTile& tile);

  // Sums over the columns, and over the rows, of a tile: added to sums.
  void (*row_sums)(const PairTile& tile, double* sums);
  void (*column_sums)(const PairTile& tile, double* sums);
};

GENCOND_DECLARE_TABLE(RowKernels, gencond_pair_rows)
GENCOND_DECLARE_TABLE(ProductKernels, gencond_pair_products)
GENCOND_DECLARE_TABLE(WeightKernels, gencond_pair_weights)

}  // namespace gencond
