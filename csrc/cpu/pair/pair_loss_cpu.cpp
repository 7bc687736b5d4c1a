// pair_loss on the CPU. Contract: ops/class_losses.h. Maths: cpu/pair/pair_class.h.
#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/pair/pair_class.h"
#include "ops/class_losses.h"
#include "ops/class_moments.h"

namespace gencond {
namespace {

// Below this many multiplications a class is computed by one thread: starting others costs more.
constexpr double ONE_THREAD = 4e6;

struct Segment {
  int64_t label;
  int64_t begin, rows;
  double cost;  // multiplications
};

PairKind kind_of(const std::string& name) {
  if (name == "infonce") return PairKind::INFONCE;
  if (name == "rbf") return PairKind::RBF;
  if (name == "hinge") return PairKind::HINGE;
  TORCH_CHECK_VALUE(name == "nearest",
                    "pair_loss: kind must be infonce, rbf, hinge or nearest, got ", name);
  return PairKind::NEAREST;
}

const RowReader& reader_of(const RowKernels& kernels, at::ScalarType type) {
  if (type == at::kFloat) return kernels.f32;
  if (type == at::kHalf) return kernels.f16;
  TORCH_CHECK_TYPE(type == at::kBFloat16,
                   "pair_loss: features must be float32, float16 or bfloat16, got ", type);
  return kernels.bf16;
}

// The classes that have pairs, in two groups. All threads together compute the `shared` ones, one
// after the other; each thread alone computes `single` ones, the costly ones first.
struct Schedule {
  std::vector<Segment> shared, single;
  int64_t shared_scratch = 0, single_scratch = 0;  // floats, of the largest class of each group
  int64_t workers = 0;                             // threads that take single classes

  Schedule(const int64_t* start, int64_t num_classes, int64_t columns) {
    double total = 0;
    for (int64_t c = 0; c < num_classes; ++c) {
      const int64_t rows = start[c + 1] - start[c];
      if (rows < 2) continue;
      const double cost = 1.5 * rows * rows * columns + 8.0 * rows * columns;
      single.push_back({c, start[c], rows, cost});
      total += cost;
    }
    const int64_t threads = at::get_num_threads();
    const double fair = std::max(total / (4 * threads), ONE_THREAD);
    const auto alone = [&](const Segment& segment) {
      const PairBlocks blocks(segment.rows, columns);
      return threads == 1 ||
             (segment.cost <= fair && blocks.scratch() <= PairBlocks::MAX_SCRATCH / threads);
    };
    const auto rest = std::stable_partition(single.begin(), single.end(), alone);
    shared.assign(rest, single.end());
    single.erase(rest, single.end());
    const double costly = total / (64.0 * threads);
    const auto small = std::stable_partition(
        single.begin(), single.end(), [&](const Segment& s) { return s.cost > costly; });
    std::stable_sort(single.begin(), small,
                     [](const Segment& a, const Segment& b) { return a.cost > b.cost; });
    for (const Segment& s : shared) shared_scratch = std::max(shared_scratch, need(s, columns));
    for (const Segment& s : single) single_scratch = std::max(single_scratch, need(s, columns));
    workers = std::min<int64_t>(threads, single.size());
  }

  static int64_t need(const Segment& segment, int64_t columns) {
    return PairBlocks(segment.rows, columns).scratch();
  }
};

// The sum of the terms of all classes.
double run_classes(const PairProblem& problem, const Schedule& schedule, int64_t num_classes) {
  const auto single = static_cast<int64_t>(schedule.single.size());
  const int64_t floats =
      std::max(schedule.shared_scratch, schedule.workers * schedule.single_scratch);
  const at::Tensor scratch = at::empty({floats}, at::kFloat);
  float* memory = scratch.mutable_data_ptr<float>();
  std::vector<double> sums(num_classes);  // the order of the schedule depends on the threads

  PairClass all_threads(problem, memory);
  for (const Segment& s : schedule.shared) sums[s.label] = all_threads.run(s.begin, s.rows);

  const int64_t batch = std::max<int64_t>(1, single / std::max<int64_t>(1, schedule.workers * 64));
  std::atomic<int64_t> next{0};
  at::parallel_for(0, schedule.workers, 1, [&](int64_t begin, int64_t end) {
    PairClass one_thread(problem, memory + begin * schedule.single_scratch);
    for (int64_t first; (first = next.fetch_add(batch)) < single;) {
      for (int64_t k = first; k < std::min(first + batch, single); ++k) {
        const Segment& s = schedule.single[k];
        sums[s.label] = one_thread.run(s.begin, s.rows);
      }
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

// Sets the gradient of rows without a partner to zero. Returns whether the row of a class of one
// row has a value that is not finite; rows of no class may have any.
bool check_lonely_rows(const PairProblem& problem, const int64_t* start, int64_t num_classes,
                       int64_t rows) {
  std::vector<int64_t> lonely;
  for (int64_t c = 0; c < num_classes; ++c) {
    if (start[c + 1] - start[c] == 1) lonely.push_back(start[c]);
  }
  const auto of_classes = static_cast<int64_t>(lonely.size());
  for (int64_t i = start[num_classes]; i < rows; ++i) lonely.push_back(i);
  std::atomic<bool> found{false};
  const int64_t columns = problem.columns;
  const int64_t grain = std::max<int64_t>(1, GRAIN / std::max<int64_t>(1, columns));
  at::parallel_for(0, static_cast<int64_t>(lonely.size()), grain, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      const int64_t row = problem.order[lonely[k]];
      if (problem.grad != nullptr) std::fill_n(problem.grad + row * columns, columns, 0.0f);
      if (k < of_classes && problem.reader.not_finite(problem.x, row * problem.stride, columns)) {
        found = true;
      }
    }
  });
  return found;
}

std::tuple<at::Tensor, at::Tensor> pair_loss(const at::Tensor& features, const at::Tensor& order,
                                             const at::Tensor& offsets,
                                             const std::optional<at::Tensor>& centres,
                                             at::TensorList tables, c10::string_view kind,
                                             double parameter, c10::string_view precision,
                                             bool need_grad) {
  check_rows("pair_loss", features, order);
  check_layout("pair_loss", order, offsets);
  const at::Tensor dense = with_dense_rows(features);
  const at::Tensor flat = order.contiguous(), starts = offsets.contiguous();
  const auto* start = starts.const_data_ptr<int64_t>();
  const int64_t num_classes = starts.numel() - 1, rows = features.size(0);
  const RowKernels& row_kernels = GENCOND_ACTIVE_TABLE(gencond_pair_rows);
  const auto options = features.options().dtype(at::kFloat);
  at::Tensor grad = need_grad ? at::empty(features.sizes(), options) : at::empty({0}, options);

  double pairs = 0, partnered = 0;
  for (int64_t c = 0; c < num_classes; ++c) {
    const auto size = static_cast<double>(start[c + 1] - start[c]);
    if (size < 2) continue;
    pairs += size * (size - 1);
    partnered += size;
  }
  PairProblem problem{kind_of(std::string(kind)),
                      parameter,
                      0,
                      dense.const_data_ptr(),
                      dense.stride(0),
                      dense.size(1),
                      flat.const_data_ptr<int64_t>(),
                      start[num_classes],
                      need_grad ? grad.mutable_data_ptr<float>() : nullptr,
                      reader_of(row_kernels, features.scalar_type()),
                      row_kernels,
                      GENCOND_ACTIVE_TABLE(gencond_pair_products),
                      GENCOND_ACTIVE_TABLE(gencond_pair_weights)};
  problem.count = problem.cosine() ? partnered : pairs;
  double loss = check_lonely_rows(problem, start, num_classes, rows)
                    ? std::numeric_limits<double>::quiet_NaN()
                    : 0;
  if (problem.count > 0) {
    const Schedule schedule(start, num_classes, problem.columns);
    loss += run_classes(problem, schedule, num_classes) / problem.count;
  }
  // in float64 first: a loss that float32 cannot hold is infinite, not an error
  return {at::full({}, loss, options.dtype(at::kDouble)).to(at::kFloat), grad};
}

}  // namespace

TORCH_LIBRARY_IMPL(gencond, CPU, m) { m.impl("pair_loss", &pair_loss); }

}  // namespace gencond
