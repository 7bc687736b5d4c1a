#include "ops/moment_matching.h"

#include <torch/library.h>

namespace gencond {

void check_stored(int64_t label, int64_t count, std::optional<int64_t> stored) {
  TORCH_CHECK_VALUE(!stored || count <= *stored, "moment_matching_loss: class ", label, " has ",
                    count, " samples, more than stored = ", stored.value_or(0), ".");
}

TORCH_LIBRARY_FRAGMENT(gencond, m) {
  m.def(
      "moment_matching(Tensor features, Tensor labels, Tensor target_count, Tensor target_mean, "
      "Tensor target_m2, float mean_weight, float std_weight, int? stored) "
      "-> (Tensor loss, Tensor count, Tensor mean, Tensor grad_mean, Tensor grad_m2)");
}

}  // namespace gencond
