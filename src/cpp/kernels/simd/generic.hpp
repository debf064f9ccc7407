// The portable family: the compiler's 16-byte vectors; SSE4.2 on x86-64-v2.
#pragma once

#include "kernels/simd/portable.hpp"

namespace attnlib::ATTNLIB_ISA {

// Register budget: 8 accumulators + 2 panel vectors + 1 broadcast + 2 products of 16 registers: x86-64-v2 has no fused
// multiply-add, so a product needs a register of its own.
inline constexpr int product_rows = 4;
inline constexpr int attention_rows = 4;
inline constexpr int product_vectors = 2;

ATTNLIB_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) { return a * b + c; }
ATTNLIB_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) { return a * b + c; }

// max(a, b) and min(a, b) are b where either is NaN, so max(limit, x) clamps x and lets a NaN in x through.
ATTNLIB_INLINE vec<float> max(vec<float> a, vec<float> b) { return a > b ? a : b; }
ATTNLIB_INLINE vec<double> max(vec<double> a, vec<double> b) { return a > b ? a : b; }
ATTNLIB_INLINE vec<float> min(vec<float> a, vec<float> b) { return a < b ? a : b; }
ATTNLIB_INLINE vec<double> min(vec<double> a, vec<double> b) { return a < b ? a : b; }

// Whether any lane is set.
template <class C>
ATTNLIB_INLINE bool any(mask_vec<C> mask) {
#if defined(__SSE4_1__)
  return _mm_testz_si128(bit_cast<__m128i>(mask), bit_cast<__m128i>(mask)) == 0;
#else
  lane_integer<C> joined = 0;
  for (int lane = 0; lane < lanes<C>; ++lane) joined |= mask[lane];
  return joined != 0;
#endif
}

#if defined(__SSE4_1__)
ATTNLIB_INLINE vec<float> round_to_integer(vec<float> x) {
  return _mm_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
ATTNLIB_INLINE vec<double> round_to_integer(vec<double> x) {
  return _mm_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else
// Adding 1.5 * 2^(mantissa bits) pushes the fraction out of the register, rounding to nearest even; beyond that size
// a number is integral already.
template <class C>
ATTNLIB_INLINE vec<C> round_by_shift(vec<C> x) {
  const vec<C> shift = broadcast<C>(sizeof(C) == 4 ? static_cast<C>(0x1.8p23) : static_cast<C>(0x1.8p52));
  const vec<C> limit = broadcast<C>(sizeof(C) == 4 ? static_cast<C>(0x1p22) : static_cast<C>(0x1p51));
  const vec<C> rounded = (x + shift) - shift;
  return (x < limit) & (x > -limit) ? rounded : x;
}
ATTNLIB_INLINE vec<float> round_to_integer(vec<float> x) { return round_by_shift<float>(x); }
ATTNLIB_INLINE vec<double> round_to_integer(vec<double> x) { return round_by_shift<double>(x); }
#endif

ATTNLIB_INLINE VectorOf<std::uint32_t>::type widen_halves(u16half halves) {
  return __builtin_convertvector(halves, VectorOf<std::uint32_t>::type);
}
// The low 16 bits of every lane of 32.
ATTNLIB_INLINE u16half low_halves(VectorOf<std::uint32_t>::type lanes_of_32) {
  return __builtin_convertvector(lanes_of_32, u16half);
}

// float16 by integer arithmetic. Widening: shift exponent and mantissa into place and re-bias the exponent; inf and NaN
// get the exponent of all ones. What is subnormal becomes the mantissa of a number that begins with 2^-14, which is
// subtracted again: no float32 on the way is subnormal, as those count as zero (runtime/float_environment.hpp).
ATTNLIB_INLINE vec<float> widen_float16(u16half half) {
  using u32 = VectorOf<std::uint32_t>::type;
  const u32 bits = __builtin_convertvector(half, u32);
  const u32 sign = (bits & 0x8000u) << 16;
  const u32 magnitude = (bits & 0x7fffu) << 13;
  const u32 normal = magnitude + 0x38000000u;
  const u32 subnormal = bit_cast<u32>(bit_cast<vec<float>>(magnitude + 0x38800000u) - broadcast<float>(0x1p-14f));
  const u32 finite = magnitude < 0x00800000u ? subnormal : normal;
  const u32 special = magnitude | 0x7f800000u;
  const auto is_special = magnitude >= 0x0f800000u;
  return bit_cast<vec<float>>(sign | bit_cast<u32>(is_special ? special : finite));
}

// Narrowing, round to nearest even. Normal results: re-bias and round on the integer. Subnormal results: adding 0.5
// aligns the mantissa to multiples of 2^-24 and the adder does the rounding.
ATTNLIB_INLINE u16half narrow_float16(vec<float> value) {
  using u32 = VectorOf<std::uint32_t>::type;
  const u32 bits = bit_cast<u32>(value);
  const u32 sign = (bits >> 16) & 0x8000u;
  const u32 magnitude = bits & 0x7fffffffu;
  const u32 normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const u32 subnormal = bit_cast<u32>(bit_cast<vec<float>>(magnitude) + broadcast<float>(0.5f)) - 0x3f000000u;
  const u32 infinity = u32{} + 0x7c00u;
  const u32 quiet_nan = ((magnitude >> 13) & 0x3ffu) | 0x7e00u;
  u32 result = magnitude < 0x38800000u ? subnormal : normal;
  result = magnitude >= 0x477ff000u ? infinity : result;  // 65520 and above round to inf
  result = magnitude > 0x7f800000u ? quiet_nan : result;
  return __builtin_convertvector(sign | result, u16half);
}

// Nothing here goes past the caches.
template <class C>
ATTNLIB_INLINE void stream(C* target, vec<C> value) {
  store_same(target, value);
}
ATTNLIB_INLINE void end_streaming() {}

}  // namespace attnlib::ATTNLIB_ISA
