// What one core can do at most: the loops that products and row operations are measured against.
//
//   multiply_add      chain_i = chain_i * factor + addend                  2 operations a lane
//   dot_bfloat16      chain_i += first(a) first(b) + second(a) second(b)   4 operations a lane of float32
//   dot_int8          chain_i += sum of 4 products of bytes                8 operations a lane of int32
//   read              every byte of an array, in order, some number of times
//
// The first three touch no memory: 12 (registers of 16 bytes and AVX2, which have 16 of them) or 16 (32 registers)
// independent chains and two operands stay in registers. A multiply-add takes 4 to 6 cycles and one or two start in
// each, so 8 to 12 must be in flight. Each chain passes through an empty asm statement in every step, so that the
// compiler can neither fold steps nor leave them out. The values settle (at 2, at infinity, at a wrapped sum), and none
// of them is a subnormal number: the time of an instruction does not depend on the rest.
//
// read adds whole registers into 8 sums; the hardware's prefetcher runs ahead by itself.
//
// Every function returns what it got done: operations, or bytes; 0 where the rung has no instruction for it.
#pragma once

#include <cstdint>

namespace attnlib {

struct CeilingKernels {
  double (*multiply_add)(std::int64_t steps) noexcept;
  double (*dot_bfloat16)(std::int64_t steps) noexcept;
  double (*dot_int8)(std::int64_t steps) noexcept;
  double (*read)(const float* data, std::int64_t count, std::int64_t times) noexcept;
};

}  // namespace attnlib
