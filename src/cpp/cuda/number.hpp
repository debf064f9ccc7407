// Numbers as they are stored and as they are computed with: float32 always, whatever the storage. On the GPU a
// conversion is one instruction; on the CPU it is done bit by bit. Both round to nearest even.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "attnlib/dtype.hpp"
#include "cuda/host_device.hpp"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif
#include "ops/half_precision.hpp"

namespace attnlib::cuda {

ATTNLIB_HOST_DEVICE float to_float(float value) { return value; }

ATTNLIB_HOST_DEVICE float to_float(float16 value) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(value.bits));
#else
  return widened(value);
#endif
}

ATTNLIB_HOST_DEVICE float to_float(bfloat16 value) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
#else
  return widened(value);
#endif
}

ATTNLIB_HOST_DEVICE void store_number(float* target, float value) { *target = value; }

ATTNLIB_HOST_DEVICE void store_number(float16* target, float value) {
#ifdef __CUDA_ARCH__
  target->bits = __half_as_ushort(__float2half_rn(value));
#else
  *target = to_float16(value);
#endif
}

ATTNLIB_HOST_DEVICE void store_number(bfloat16* target, float value) {
#ifdef __CUDA_ARCH__
  target->bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value)
    target->bits = static_cast<std::uint16_t>((bits >> 16) | 0x40u);  // a NaN must not round to infinity
  else
    target->bits = static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
}

// The larger one; NaN loses, as with fmaxf. A NaN shows in the sum of a softmax instead.
ATTNLIB_HOST_DEVICE float larger(float a, float b) { return a > b || b != b ? a : b; }

constexpr float log2_e = 1.4426950408889634f;

}  // namespace attnlib::cuda
