// Rotary position embedding (J. Su et al., "RoFormer", 2021). A row of D features at position p is R / 2 planes, which
// are turned by the angles of p, and D - R features that pass through:
//
//   out1 = x1 * cos[p] - x2 * sin[p]        out2 = x2 * cos[p] + x1 * sin[p]
//
// where plane i is (x[i], x[i + R/2]) (GPT-NeoX, Llama), or (x[2i], x[2i + 1]) when interleaved (RoFormer, GPT-J).
// Both features of a plane are read before either is written, so a row may be turned in place.
//
// Error: one rounding of a product and one of the fused multiply-add (on rungs without FMA, of each step); a result is
// within 1.5 eps of |x1 cos| + |x2 sin|.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// Consecutive positions of one head. Strides count elements, from a row to the next; rows are contiguous.
struct RotaryRows {
  const void* x;
  const void* cos;
  const void* sin;
  void* out;                      // may be x itself
  const std::int64_t* positions;  // row i turns by row positions[i] of the tables; nullptr: by row i
  std::int64_t x_stride;
  std::int64_t cos_stride;
  std::int64_t sin_stride;
  std::int64_t out_stride;
  std::int64_t rows;
  std::int64_t planes;    // R / 2
  std::int64_t features;  // D
  bool interleaved;
};

using RotaryKernel = void (*)(const RotaryRows&) noexcept;

// Indexed by DType.
struct RotaryKernels {
  RotaryKernel rotary[dtype_count];
};

}  // namespace attnlib
