// The inner loops of pair_loss on raw pointers, compiled once per instruction set. The maths is in
// cpu/pair/pair_class.h.
//
// An operand is a matrix of float32 whose rows lie `ld` apart. Its columns, and those of a matrix
// of pairs, are padded to a multiple of PAD. The padding of an operand is zero; the padding of a
// matrix of pairs stands for pairs that are infinitely far apart.
#pragma once

#include <cstdint>

#include "cpu/isa_table.h"

namespace gencond {

constexpr int64_t PAD = 16;
// The side of a square tile of pairs, which fits the second-level cache.
constexpr int64_t TILE = 128;
// A pair is near if its squared distance is below this share of the sum of its squared norms: a
// Gram matrix would lose too many digits of the distance.
constexpr float NEAR = 1e-3f;

inline int64_t padded(int64_t size) { return (size + PAD - 1) / PAD * PAD; }

// Reads features of one type; `row` and `ahead` count elements.
struct RowReader {
  // Writes the row as float32, and zeros up to padded(columns), to a; returns its squared norm.
  // Fetches on the way what the caller needs soon: the row `ahead`, and `columns` floats of
  // `target`.
  float (*copy)(const void* x, int64_t row, int64_t ahead, int64_t columns, float* a,
                const float* target);
  // Whether the row has a NaN or an infinity.
  bool (*not_finite)(const void* x, int64_t row, int64_t columns);
};

struct RowKernels {
  RowReader f32, f16, bf16;

  // mean[j] of scale[i] a[i][j] over the rows, or 0 where the mean is small next to the values:
  // subtracting it would only cost near-duplicates their last digits.
  void (*mean)(const float* a, int64_t ld, const float* scale, int64_t rows, int64_t columns,
               float* mean);

  // a = scale a - shift; returns its squared norm.
  float (*centre)(float* a, float scale, const float* shift, int64_t columns);

  // g += weight (b - a); g may end after `columns` numbers, without padding.
  void (*add_difference)(float* g, const float* b, const float* a, float weight, int64_t columns);

  // g -= weight a; g may end after `columns` numbers, without padding.
  void (*subtract)(float* g, const float* a, float weight, int64_t columns);

  // With u = a + shift, a unit vector or zero: g = scale (g - (u . g) u).
  void (*project)(float* g, const float* a, const float* shift, float scale, int64_t columns);
};

struct ProductKernels {
  // out[i][j] = a_i . b_j, in whole groups of PAD rows and columns. For `diagonal` tiles, where
  // a = b, the entries below the diagonal may be left unwritten.
  void (*gram)(const float* a, const float* b, int64_t ld, int64_t columns, int64_t rows_a,
               int64_t rows_b, bool diagonal, float* out, int64_t ld_out);

  // to[j][i] = from[i][j], in whole groups of PAD rows and columns.
  void (*transpose)(const float* from, int64_t ld_from, int64_t rows, int64_t columns, float* to,
                    int64_t ld_to);

  // Copies what is above the diagonal of a square below it, in whole groups of PAD rows and
  // columns.
  void (*mirror)(float* square, int64_t size, int64_t ld);

  // g[i] = sum over j < depth of w[i][j] a_j, or of w[j][i] a_j if `transposed`; `add` adds the sum
  // to g[i]. Only `columns` columns of g from `first` on are written; they need no padding.
  void (*multiply)(const float* w, int64_t ld_w, bool transposed, int64_t rows, int64_t depth,
                   const float* a, int64_t ld_a, int64_t first, int64_t columns, bool add,
                   float* const* g);
};

// A tile of pairs in a larger matrix: rows x columns (padded), rows `ld` apart.
struct PairTile {
  float* data;
  int64_t ld, rows, columns;
};

struct WeightKernels {
  // Replaces a_i . b_j by |a_i - b_j|^2, given the squared norms. The distances of near pairs are
  // computed from a_i - b_j and get a minus sign, which their weights keep. Returns whether there
  // are near pairs.
  bool (*distances)(const PairTile& tile, const float* a, const float* b, int64_t ld,
                    int64_t columns, const float* norm_a, const float* norm_b);

  // Replace squared distances by weights and return the sum of the terms. rbf has the term
  // exp(-factor d2) and `scale` times that as weight; hinge has the term max(0, margin - d)^2 and
  // the weight scale max(0, margin - d) / d.
  double (*rbf)(const PairTile& tile, float factor, float scale);
  double (*hinge)(const PairTile& tile, float margin, float scale);

  // Replaces squared distances by the weights scale (p_ij + p_ji), where
  // p_ij = exp(factor (deficit_j - d2_ij - top_i) - log_total_i).
  void (*infonce)(const PairTile& tile, float factor, float scale, const float* deficit_a,
                  const float* deficit_b, const float* top_a, const float* top_b,
                  const float* log_total_a, const float* log_total_b);

  // Joins one row of squared distances to what was seen of it before: top is the greatest
  // deficit_j - d2_j, total the sum of exp(factor (deficit_j - d2_j - top)).
  void (*soft_top)(const float* d2, const float* deficit, int64_t columns, float factor, float* top,
                   double* total);

  // Joins the row to top alone; which becomes the first j that reaches it, counted from `first`.
  void (*hard_top)(const float* d2, const float* deficit, int64_t columns, int64_t first,
                   float* top, int64_t* which);

  // The first column from `from` on with a negative weight, or `columns`.
  int64_t (*find_negative)(const float* w, int64_t from, int64_t columns);
  // Sets negative weights to 0.
  void (*clear_negative)(const PairTile& tile);

  // Add the sum of every row, or of every column, of a tile to sums.
  void (*row_sums)(const PairTile& tile, double* sums);
  void (*column_sums)(const PairTile& tile, double* sums);
};

GENCOND_DECLARE_TABLE(RowKernels, gencond_pair_rows)
GENCOND_DECLARE_TABLE(ProductKernels, gencond_pair_products)
GENCOND_DECLARE_TABLE(WeightKernels, gencond_pair_weights)

}  // namespace gencond
