// C++ callers with a floating-point environment of their own: results are the same whatever it is, also where the call
// comes from a parallel region of the caller's, and it is the same afterwards.
#include <cfenv>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "attnlib/matmul.hpp"
#include "attnlib/softmax.hpp"

namespace {

using Floats = std::vector<float>;
constexpr std::int64_t rows = 5, depth = 37, columns = 21;

attnlib::TensorView view(Floats& values, std::int64_t extent, std::int64_t last_extent) {
  return attnlib::contiguous_view(values.data(), {extent, last_extent}, attnlib::DType::float32);
}

// Made once, in the environment that the process begins with.
struct Inputs {
  Floats a = Floats(rows * depth), b = Floats(depth * columns), scores = Floats(rows * columns);

  Inputs() {
    std::uint32_t random = 1;
    for (Floats* values : {&a, &b, &scores})
      for (float& value : *values) {
        random = random * 1664525u + 1013904223u;
        value = static_cast<float>(static_cast<std::int32_t>(random) >> 8) * 0x1p-23f;
      }
    for (std::size_t i = 1; i < scores.size(); i += 2) scores[i] -= 90.0f;
  }
};

// A product, whose sums are rounded, and a softmax, half of whose weights would be subnormal numbers.
Floats results(Inputs inputs) {
  Floats product(rows * columns), weights(rows * columns);
  attnlib::matmul(view(inputs.a, rows, depth), view(inputs.b, depth, columns), view(product, rows, columns));
  attnlib::softmax(view(inputs.scores, rows, columns), -1, nullptr, view(weights, rows, columns));
  product.insert(product.end(), weights.begin(), weights.end());
  return product;
}

}  // namespace

int main() {
  const Inputs inputs;
  const Floats expected = results(inputs);
  int failures = 0;
  for (const int rounding : {FE_UPWARD, FE_TOWARDZERO, FE_TONEAREST}) {
    int others = 0, changed = 0, members = 0;
#pragma omp parallel num_threads(2) reduction(+ : others, changed, members)
    {
      std::fesetround(rounding);
      others += results(inputs) != expected;
      changed += std::fegetround() != rounding;
      std::fesetround(FE_TONEAREST);
      ++members;
    }
    std::fesetround(rounding);
    others += results(inputs) != expected;
    changed += std::fegetround() != rounding;
    std::fesetround(FE_TONEAREST);
    if (others != 0 || changed != 0 || members != 2) {
      ++failures;
      std::printf("rounding %d: %d of %d results differ, %d environments were changed\n", rounding, others, members + 1,
                  changed);
    }
  }
  return failures == 0 ? 0 : 1;
}
