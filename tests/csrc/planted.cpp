// Makes the mistakes that the sanitizers must find, in the memory that ops use: `planted overrun`
// reads one element beyond a tensor, `planted overflow` leaves the range of an integer.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

namespace {

float sum(const float* x, int64_t size) {
  float total = 0;
  for (int64_t i = 0; i <= size; ++i) total += x[i];
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "overrun") {
    const at::Tensor x = at::empty({argc + 15}, at::kFloat);
    std::printf("%f\n", sum(x.const_data_ptr<float>(), x.numel()));
  } else {
    std::printf("%d\n", std::numeric_limits<int>::max() - 1 + argc);
  }
  return 0;
}
