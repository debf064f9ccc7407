// Scalars of two bytes to float32 and back, for what is done once and outside the kernels.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

inline float widened(bfloat16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16); }

inline float widened(float16 value) {
  const float sign = (value.bits & 0x8000u) != 0 ? -1.0f : 1.0f;
  const int exponent = (value.bits >> 10) & 0x1f, mantissa = value.bits & 0x3ff;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  if (exponent == 31) return mantissa == 0 ? sign * HUGE_VALF : NAN;
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

// Round to nearest even; inf from 65520 on.
inline float16 to_float16(float value) {
  const std::uint32_t sign = std::signbit(value) ? 0x8000u : 0u;
  const float magnitude = std::fabs(value);
  if (!(magnitude < 65520.0f)) return {static_cast<std::uint16_t>(sign | (magnitude >= 65520.0f ? 0x7c00u : 0x7e00u))};
  if (magnitude < 0x1p-14f)
    return {static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, 24))))};
  const int exponent = std::ilogb(magnitude);
  const auto mantissa = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));  // 1024..2048
  return {static_cast<std::uint16_t>(sign | ((static_cast<std::uint32_t>(exponent + 14) << 10) + mantissa))};
}

}  // namespace attnlib
