// The intra-class losses and their gradients as they are defined, pair by pair, in float64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "op_testing.h"

namespace gencond::test {

// One class. `error` says how far off the gradient of a row may be: a share of its terms, which may
// cancel. It is negative where the gradient depends on which of two neighbours is nearer.
struct PairResult {
  double total = 0;  // of the terms
  std::vector<double> grad, error;
};

class PairReference {
 public:
  // rows: of this class, at least two; count: what the sum of the terms of all classes is divided
  // by
  PairReference(const Matrix& x, const std::vector<int64_t>& rows, const std::string& kind,
                double parameter, double count)
      : n_(static_cast<int64_t>(rows.size())),
        width_(x.columns),
        parameter_(parameter),
        count_(count),
        inverse_(n_, 1.0),
        a_(n_ * width_),
        size_(n_) {
    const bool cosine = kind == "infonce" || kind == "nearest";
    for (int64_t i = 0; i < n_; ++i) {
      const Real* from = x[rows[i]];
      double square = 0;
      for (int64_t j = 0; j < width_; ++j) square += static_cast<double>(from[j] * from[j]);
      // the square that the ops take in float32 may vanish
      if (cosine) inverse_[i] = static_cast<float>(square) < 1e-38f ? 0 : 1 / std::sqrt(square);
      for (int64_t j = 0; j < width_; ++j) {
        a_[i * width_ + j] = static_cast<double>(from[j]) * inverse_[i];
      }
    }
    measure_sizes();
    result_.grad.resize(a_.size());
    result_.error.resize(n_);
    if (kind == "rbf") run_distances([&](double d2, double& w) { return rbf(d2, w); });
    else if (kind == "hinge") run_distances([&](double d2, double& w) { return hinge(d2, w); });
    else if (kind == "infonce") run_infonce();
    else run_nearest();
    if (cosine) project();
  }

  const PairResult& result() const { return result_; }

 private:
  const double* row(int64_t i) const { return a_.data() + i * width_; }

  // |a_i - mean|: the operands of the ops are centred
  void measure_sizes() {
    std::vector<double> mean(width_);
    for (int64_t i = 0; i < n_; ++i) {
      for (int64_t j = 0; j < width_; ++j) mean[j] += row(i)[j] / static_cast<double>(n_);
    }
    for (int64_t i = 0; i < n_; ++i) {
      double square = 0;
      for (int64_t j = 0; j < width_; ++j) {
        square += (row(i)[j] - mean[j]) * (row(i)[j] - mean[j]);
      }
      size_[i] = std::sqrt(square);
    }
  }

  double rbf(double d2, double& weight) const {
    const double value = std::exp(-d2 / (2 * parameter_ * parameter_));
    weight = 2 * value / (parameter_ * parameter_ * count_);
    return value;
  }

  double hinge(double d2, double& weight) const {
    const double d = std::sqrt(d2), lack = std::max(0.0, parameter_ - d);
    weight = d > 0 ? 4 * lack / (d * count_) : 0;
    return lack * lack;
  }

  // g_i += weight (a_j - a_i)
  void pull(int64_t i, int64_t j, double weight) {
    double square = 0;
    for (int64_t k = 0; k < width_; ++k) {
      const double difference = row(j)[k] - row(i)[k];
      result_.grad[i * width_ + k] += weight * difference;
      square += difference * difference;
    }
    // d2 from a Gram matrix keeps at the least three digits, and a difference of sums rounds
    result_.error[i] += weight * (1e-3 * std::sqrt(square) + 1e-5 * (size_[i] + size_[j]));
  }

  // terms: the weight and the value of a pair by its squared distance
  template <typename F>
  void run_distances(const F& term) {
    for (int64_t i = 0; i < n_; ++i) {
      for (int64_t j = 0; j < n_; ++j) {
        if (i == j) continue;
        double d2 = 0, weight = 0;
        for (int64_t k = 0; k < width_; ++k) {
          d2 += (row(i)[k] - row(j)[k]) * (row(i)[k] - row(j)[k]);
        }
        result_.total += term(d2, weight);
        pull(i, j, weight);
      }
    }
  }

  std::vector<double> cosines(int64_t i) const {
    std::vector<double> all(n_, -std::numeric_limits<double>::infinity());
    for (int64_t j = 0; j < n_; ++j) {
      if (i == j) continue;
      all[j] = 0;
      for (int64_t k = 0; k < width_; ++k) all[j] += row(i)[k] * row(j)[k];
    }
    return all;
  }

  // g_i += weight u_j: what it has along u_i is projected away later
  void push(int64_t i, int64_t j, double weight) {
    for (int64_t k = 0; k < width_; ++k) result_.grad[i * width_ + k] += weight * row(j)[k];
    result_.error[i] += 1e-4 * weight;
  }

  void run_infonce() {
    for (int64_t i = 0; i < n_; ++i) {
      const std::vector<double> cosine = cosines(i);
      const double top = *std::max_element(cosine.begin(), cosine.end());
      double total = 0;
      for (const double c : cosine) total += std::exp((c - top) / parameter_);
      result_.total += top / parameter_ + std::log(total / static_cast<double>(n_ - 1));
      for (int64_t j = 0; j < n_; ++j) {
        if (i == j) continue;
        const double p = std::exp((cosine[j] - top) / parameter_) / total;
        push(i, j, p / (parameter_ * count_));
        push(j, i, p / (parameter_ * count_));
      }
    }
  }

  void run_nearest() {
    std::vector<bool> doubtful(n_);
    for (int64_t i = 0; i < n_; ++i) {
      const std::vector<double> cosine = cosines(i);
      const auto best = std::max_element(cosine.begin(), cosine.end());
      const auto j = static_cast<int64_t>(best - cosine.begin());
      result_.total += *best;
      push(i, j, 1 / count_);
      push(j, i, 1 / count_);
      for (int64_t k = 0; k < n_; ++k) {
        if (k != j && k != i && cosine[k] > *best - 1e-5) {
          doubtful[i] = doubtful[j] = doubtful[k] = true;
        }
      }
    }
    for (int64_t i = 0; i < n_; ++i) {
      if (doubtful[i]) result_.error[i] = -1;
    }
  }

  void project() {
    for (int64_t i = 0; i < n_; ++i) {
      double* g = result_.grad.data() + i * width_;
      double along = 0;
      for (int64_t k = 0; k < width_; ++k) along += g[k] * row(i)[k];
      for (int64_t k = 0; k < width_; ++k) g[k] = inverse_[i] * (g[k] - along * row(i)[k]);
      result_.error[i] *= result_.error[i] < 0 ? 1 : inverse_[i];
    }
  }

  int64_t n_, width_;
  double parameter_, count_;
  std::vector<double> inverse_, a_, size_;
  PairResult result_;
};

}  // namespace gencond::test
