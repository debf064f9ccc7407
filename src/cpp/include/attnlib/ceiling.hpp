// What the active rung can do at most on one core: what benchmarks hold times against.
#pragma once

#include <cstdint>

#include "attnlib/tensor_view.hpp"

namespace attnlib {

enum class CeilingDType { float32, bfloat16, int8 };

// Does `steps` steps of multiply-adds (bfloat16, int8: of dot products) that wait for no memory. Returns how many
// operations that was; 0 if the rung has no instruction for them. std::invalid_argument if steps is negative.
double ceiling_multiply_add(CeilingDType dtype, std::int64_t steps);

// Reads a contiguous float32 array `times` times in order. Returns how many bytes that was: all but a tail of at most
// 511. std::invalid_argument if `data` is not so, or times negative.
double ceiling_read(const TensorView& data, std::int64_t times);

}  // namespace attnlib
