// A rung may have a unit that multiplies whole tiles of registers (x86: AMX). Such a rung takes everything from the one
// that it extends, but for these functions, which stand for those of the same meaning in MatmulKernels,
// AttentionKernels, AttentionDecodeKernels and CeilingKernels.
#pragma once

#include <cstdint>

#include "kernels/attention_decode.hpp"
#include "kernels/matmul.hpp"

namespace attnlib {

// Up to `group_rows` rows of units, to be arranged as the unit loads them: step_bytes of each, then the next step_bytes
// of each, group_rows apart however many there are; the last ones end with zeros.
struct MatrixUnitRows {
  std::int64_t rows, row_bytes;
  const void* source;
  std::int64_t source_stride;  // in bytes
  void* target;                // begins with a cache line
};

struct MatrixUnitKernels {
  // Rows that a product multiplies together; the most rows of a block, and the most bytes of them.
  std::int64_t group_rows, block_rows, block_bytes;
  // Of a row, in one step.
  std::int64_t step_bytes;
  void (*arrange_rows)(const MatrixUnitRows* rows) noexcept;
  // `left` of a block is groups of group_rows arranged rows, one after the other.
  MultiplyFunction multiply_bfloat16;           // pairs on both sides, out of bfloat16
  MultiplyFunction multiply_int8[dtype_count];  // by the type of out; null for float64
  void (*attend_bfloat16)(const AttentionTask* task) noexcept;
  std::int64_t (*attention_scratch_bytes)(std::int64_t head_size, std::int64_t value_size) noexcept;
  // Decoding of bfloat16, where head and value sizes are whole multiples of this.
  std::int64_t decode_step;
  const AttentionDecodeKernels* attention_decode;
  double (*ceiling_bfloat16)(std::int64_t steps) noexcept;
  double (*ceiling_int8)(std::int64_t steps) noexcept;
};

}  // namespace attnlib
