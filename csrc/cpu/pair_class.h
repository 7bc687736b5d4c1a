// The pairs of one class: their part of the loss, and of the gradient.
//
// Operands a_i: x_i - centre for rbf and hinge; for infonce and nearest u_i - mean of u, with
// u_i = x_i / |x_i| or zero, and deficit_i = |u_i|^2 - 1. Squared distances d2_ij = |a_i - a_j|^2
// come from Gram matrices, u_i . u_j = 1 + (deficit_i + deficit_j - d2_ij) / 2. With the weights
// w_ij = -2 dL / d(d2_ij) >= 0, both orders of a pair together, the gradient is
//
//     g_i = sum_j w_ij (a_j - a_i) = (W A)_i - r_i a_i,    r_i = sum_j w_ij,
//
// for cosines projected and scaled: (g_i - (u_i . g_i) u_i) / |x_i|. Near pairs (see NEAR) would
// lose their digits in it: their distances and w_ij (a_j - a_i) are formed from differences.
//
// A class of many rows is worked through in pairs of blocks of rows, I <= J, in a fixed order, and
// those in tiles. Each row of each result is written by one task, so the threads do not matter.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/pair_kernel.h"

namespace gencond {

enum class PairKind { INFONCE, RBF, HINGE, NEAREST };

// What all classes of one call share.
struct PairProblem {
  PairKind kind;
  double parameter;
  double count;  // what the sum of the terms is divided by: pairs, or rows that have a partner
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
  // Floats that the classes at work at one time may take, about: 48 MB.
  static constexpr int64_t MAX_SCRATCH = 12 << 20;

  int64_t ld, ld_w;
  int64_t size, count;  // rows of a block (a multiple of PAD) and number of blocks

  PairBlocks(int64_t rows, int64_t columns);
  int64_t scratch() const;  // floats
};

class PairClass {
 public:
  // scratch: as much as the PairBlocks of any class that will be run say.
  PairClass(const PairProblem& problem, float* scratch) : p_(problem), scratch_(scratch) {}

  // The sum of the terms of the class order[begin] ... order[begin + rows - 1], rows >= 2; writes
  // its rows of the gradient.
  double run(int64_t begin, int64_t rows);

 private:
  struct Side {
    int64_t first, rows;  // in the class
    const float* a;
  };
  struct Tile {
    int64_t i, j;  // numbers of the tiles of rows
  };

  void start(int64_t begin, int64_t rows);
  template <typename F>
  void for_each_pair_of_blocks(const F& f);
  Side load(int slot, int64_t block);
  void measure(const Side& left, const Side& right);
  void weigh(const Side& left, const Side& right);
  void rank(const Side& left, const Side& right);
  void link_nearest(const Side& left, const Side& right);
  void spread(const Side& left, const Side& right);
  void spread_near(const Side& to, const Side& from, bool transposed);
  void spread_far(const Side& to, const Side& from, bool transposed);
  void finish(const Side& side);
  double close_ranks();
  void fill_grad(float value);
  double fail();

  bool diagonal(const Side& left, const Side& right) const { return left.first == right.first; }
  bool ranks() const { return p_.cosine(); }
  std::vector<Tile> tiles(const Side& left, const Side& right) const;
  PairTile tile(const Side& left, const Side& right, const Tile& at) const;
  void mirror(const Side& left, const Side& right, const Tile& at, const PairTile& pairs);

  static constexpr int64_t MAX_TILES = PairBlocks::MAX_SIZE / TILE;  // along a block

  const PairProblem& p_;
  float* scratch_;
  PairBlocks blocks_{0, 0};
  int64_t begin_ = 0, rows_ = 0;
  int64_t loaded_[2] = {-1, -1};
  float *a_[2], *w_ = nullptr, *shift_ = nullptr;
  float shift_norm_ = 0;
  bool finite_ = true;
  bool grad_started_ = false;  // its rows hold what more is added to
  double sum_ = 0;
  bool near_[MAX_TILES][MAX_TILES];
  // of every row of the class
  std::vector<float> norm_, scale_, deficit_, top_, log_total_;
  std::vector<double> total_, weight_;
  std::vector<int64_t> which_;
  std::vector<float*> grad_;
};

}  // namespace gencond
