// What the files of this folder take from each other.
#pragma once

#include "kernels/matrix_unit.hpp"

namespace attnlib::ATTNLIB_ISA {

// kernels/amx/matmul.cpp
constexpr int matrix_group_rows = 32;            // multiplied together
constexpr std::int64_t matrix_block_rows = 512;  // at most
// Of a block's rows: with two panels and what is written they stay in the level-2 cache (2 MB) while all panels pass.
constexpr std::int64_t matrix_block_bytes = 768 << 10;
void arrange_rows(const MatrixUnitRows* rows) noexcept;
void multiply_bfloat16_tiles(const MatmulBlock* block) noexcept;
template <class T>
void multiply_int8_tiles(const MatmulBlock* block) noexcept;

// kernels/amx/attention.cpp
void attend_bfloat16(const AttentionTask* task) noexcept;
std::int64_t attention_scratch_bytes(std::int64_t head_size, std::int64_t value_size) noexcept;

// kernels/amx/attention_decode.cpp
constexpr int matrix_decode_step = 32;
extern const AttentionDecodeKernels matrix_unit_decode_kernels;

// kernels/amx/ceiling.cpp
double ceiling_bfloat16(std::int64_t steps) noexcept;
double ceiling_int8(std::int64_t steps) noexcept;

}  // namespace attnlib::ATTNLIB_ISA
