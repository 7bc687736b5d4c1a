// The pairs of one class: their share of the loss, and of the gradient.
//
// Operands. rbf and hinge use a_i = x_i - centre. infonce and nearest use a_i = u_i - mean of u,
// where u_i = x_i / |x_i|, or zero for a zero row; deficit_i = |u_i|^2 - 1 is then 0, or -1.
//
// Distances. d2_ij = |a_i - a_j|^2 comes from Gram matrices, and
// u_i . u_j = 1 + (deficit_i + deficit_j - d2_ij) / 2.
//
// Gradient. With the weights w_ij = -2 dL / d(d2_ij) >= 0, both orders of a pair together,
//
//     g_i = sum_j w_ij (a_j - a_i) = (W A)_i - r_i a_i,    r_i = sum_j w_ij.
//
// The cosine kinds project and scale it: (g_i - (u_i . g_i) u_i) / |x_i|.
//
// Near pairs (see NEAR in pair_kernel.h) would lose their digits in the matrix products. Their
// distances and their w_ij (a_j - a_i) are computed from differences of rows.
//
// Blocks and tiles. A large class is cut into blocks of rows. The pairs of blocks I <= J are worked
// through in a fixed order. The matrix of one pair of blocks is cut into tiles of TILE x TILE
// pairs, which the threads share. One task writes each row of each result, so the bits do not
// depend on the number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/pair/pair_kernel.h"

namespace gencond {

enum class PairKind { INFONCE, RBF, HINGE, NEAREST };

// What all classes of one call share.
struct PairProblem {
  PairKind kind;
  double parameter;  // temperature, sigma or margin
  double count;      // the divisor of the sum of terms: pairs, or rows that have a partner
  const void* x;
  int64_t stride, columns;
  const int64_t* order;
  int64_t listed;  // rows of all classes
  float* grad;     // [N, D], or null if none is wanted
  const RowReader& reader;
  const RowKernels& row;
  const ProductKernels& product;
  const WeightKernels& weight;

  bool cosine() const { return kind == PairKind::INFONCE || kind == PairKind::NEAREST; }
};

// How a class of so many rows is cut into blocks.
struct PairBlocks {
  static constexpr int64_t MAX_SIZE = 2048;
  // The classes in progress at one time take about this many floats: 48 MB.
  static constexpr int64_t MAX_SCRATCH = 12 << 20;

  int64_t ld, ld_w;     // floats between the rows of an operand, and of a matrix of pairs
  int64_t size, count;  // rows of a block (a multiple of PAD) and number of blocks

  PairBlocks(int64_t rows, int64_t columns);
  int64_t scratch() const;  // floats
};

// Computes one class after another in the same scratch memory.
class PairClass {
 public:
  // scratch: at least PairBlocks::scratch() floats of the largest class that will be run.
  PairClass(const PairProblem& problem, float* scratch) : p_(problem), scratch_(scratch) {}

  // Returns the sum of the terms of the class order[begin] ... order[begin + rows - 1], rows >= 2,
  // and writes its rows of the gradient. A class with a value that is not finite gives NaN.
  double run(int64_t begin, int64_t rows);

 private:
  // Rows first ... first + rows - 1 of the class, and their operand.
  struct Block {
    int64_t first, rows;
    const float* a;
  };
  // The place of a tile in the matrix of a pair of blocks, counted in tiles.
  struct Tile {
    int64_t i, j;
  };

  // Steps of run, in order. Those that take two blocks work on the matrix w_ of their pairs: rows
  // are those of `left`, columns those of `right`.

  // Lays out the scratch memory and resets everything that belongs to a class.
  void start_class(int64_t begin, int64_t rows);
  // Calls f(left, right) for blocks I <= J; stops once a row turned out not to be finite.
  template <typename F>
  void for_each_pair_of_blocks(const F& f);
  // Reads a block into scratch slot 0 or 1, shifted and for cosines normalised, unless it is there
  // already. The first block of a class sets the shift.
  Block load_block(int slot, int64_t block);
  // w_ = squared distances; sets near_. Distances of near pairs get a minus sign.
  void to_distances(const Block& left, const Block& right);
  // Reads distances and updates, for the rows of both blocks, the closest other row (top_,
  // nearest_) and for infonce the sum of exponentials (exp_sum_).
  void reduce_rows(const Block& left, const Block& right);
  // Returns the sum of the terms that belong to rows, once every row has seen all others.
  double sum_row_terms();
  // w_: squared distances become weights, which keep the minus sign of near pairs. For rbf and
  // hinge this adds the terms of the pairs to sum_.
  void to_weights(const Block& left, const Block& right);
  // w_ = the weights of kind nearest: one pair for each row, all of them treated as near.
  void to_nearest_weights(const Block& left, const Block& right);
  // Adds the weighted differences of all pairs to the gradient rows of both blocks.
  void accumulate_gradient(const Block& left, const Block& right);
  // The share of near pairs: differences, row by row. `transposed`: w_ is read as its transpose,
  // so that `to` are its columns.
  void accumulate_near(const Block& to, const Block& from, bool transposed);
  // The share of all other pairs: g += W A by products, and r += row sums of W.
  void accumulate_far(const Block& to, const Block& from, bool transposed);
  // g -= r a, then for cosines projects and scales: these gradient rows are complete.
  void finish_gradient(const Block& block);
  // Sets every gradient row of the class to a value.
  void fill_grad(float value);
  // The result of a class that is not finite: a gradient of NaN, and NaN as the loss.
  double nan_result();

  bool same_block(const Block& left, const Block& right) const { return left.first == right.first; }
  // infonce and nearest have one term for each row, rbf and hinge one for each pair.
  bool has_row_terms() const { return p_.cosine(); }
  // The tiles to compute: all of them, or the upper triangle where the blocks are the same.
  std::vector<Tile> tiles_between(const Block& left, const Block& right) const;
  // The memory of a tile in w_.
  PairTile tile(const Block& left, const Block& right, const Tile& at) const;
  // Where the blocks are the same, copies a tile of the upper triangle to its mirror image.
  void mirror_tile(const Block& left, const Block& right, const Tile& at, const PairTile& pairs);

  static constexpr int64_t MAX_TILES = PairBlocks::MAX_SIZE / TILE;  // along a block

  const PairProblem& p_;
  float* scratch_;
  PairBlocks blocks_{0, 0};
  int64_t begin_ = 0, rows_ = 0;   // of the class in p_.order
  int64_t loaded_[2] = {-1, -1};   // number of the block in each slot
  float* a_[2];                    // the slots: operands of two blocks
  float* w_ = nullptr;             // the matrix of a pair of blocks: distances, then weights
  float* shift_ = nullptr;         // subtracted from every row
  float shift_norm_ = 0;           // its squared norm
  bool finite_ = true;             // whether all rows read so far are
  bool grad_started_ = false;      // whether gradient rows already hold numbers to add to
  double sum_ = 0;                 // of the terms
  bool near_[MAX_TILES][MAX_TILES];  // whether a tile has near pairs

  // One entry for each row of the class, padded to a multiple of PAD.
  std::vector<float> norm_;         // |a|^2; infinite in the padding
  std::vector<float> scale_;        // 1 / |x| for cosines (0 for a zero row), else 1
  std::vector<float> deficit_;      // |u|^2 - 1
  std::vector<float> top_;          // greatest deficit_j - d2_ij over the other rows j
  std::vector<double> exp_sum_;     // sum over j of exp((deficit_j - d2_ij - top_i) / 2t)
  std::vector<float> log_exp_sum_;  // its logarithm
  std::vector<int64_t> nearest_;    // the row j of top_
  std::vector<double> weight_sum_;  // r_i, without near pairs
  std::vector<float*> grad_;        // where the gradient of a row goes
};

}  // namespace gencond
