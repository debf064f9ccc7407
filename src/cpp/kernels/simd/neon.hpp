// NEON, which every aarch64 has: 32 registers of 4 floats or 2 doubles, with fused multiply-adds.
#pragma once

#include <arm_neon.h>

#include "kernels/simd/portable.hpp"

namespace attnlib::ATTNLIB_ISA {

// Register budget: 24 accumulators + 3 panel vectors + 1 broadcast of 32 registers.
inline constexpr int product_rows = 8;
inline constexpr int attention_rows = 12;
inline constexpr int product_vectors = 3;

ATTNLIB_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) {
  return bit_cast<vec<float>>(vfmaq_f32(bit_cast<float32x4_t>(c), bit_cast<float32x4_t>(a), bit_cast<float32x4_t>(b)));
}
ATTNLIB_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) {
  return bit_cast<vec<double>>(vfmaq_f64(bit_cast<float64x2_t>(c), bit_cast<float64x2_t>(a), bit_cast<float64x2_t>(b)));
}

// max(a, b) and min(a, b) are b where either is NaN, so max(limit, x) clamps x and lets a NaN in x through.
ATTNLIB_INLINE vec<float> max(vec<float> a, vec<float> b) { return a > b ? a : b; }
ATTNLIB_INLINE vec<double> max(vec<double> a, vec<double> b) { return a > b ? a : b; }
ATTNLIB_INLINE vec<float> min(vec<float> a, vec<float> b) { return a < b ? a : b; }
ATTNLIB_INLINE vec<double> min(vec<double> a, vec<double> b) { return a < b ? a : b; }

// Whether any lane is set.
template <class C>
ATTNLIB_INLINE bool any(mask_vec<C> mask) {
  return vmaxvq_u32(bit_cast<uint32x4_t>(mask)) != 0;
}

ATTNLIB_INLINE vec<float> round_to_integer(vec<float> x) {
  return bit_cast<vec<float>>(vrndnq_f32(bit_cast<float32x4_t>(x)));
}
ATTNLIB_INLINE vec<double> round_to_integer(vec<double> x) {
  return bit_cast<vec<double>>(vrndnq_f64(bit_cast<float64x2_t>(x)));
}

ATTNLIB_INLINE VectorOf<std::uint32_t>::type widen_halves(u16half halves) {
  return __builtin_convertvector(halves, VectorOf<std::uint32_t>::type);
}
// The low 16 bits of every lane of 32.
ATTNLIB_INLINE u16half low_halves(VectorOf<std::uint32_t>::type lanes_of_32) {
  return bit_cast<u16half>(vmovn_u32(bit_cast<uint32x4_t>(lanes_of_32)));
}

ATTNLIB_INLINE vec<float> widen_float16(u16half bits) {
  return bit_cast<vec<float>>(vcvt_f32_f16(bit_cast<float16x4_t>(bits)));
}
ATTNLIB_INLINE u16half narrow_float16(vec<float> value) {
  return bit_cast<u16half>(vcvt_f16_f32(bit_cast<float32x4_t>(value)));
}

// Nothing here goes past the caches.
template <class C>
ATTNLIB_INLINE void stream(C* target, vec<C> value) {
  store_same(target, value);
}
ATTNLIB_INLINE void end_streaming() {}

}  // namespace attnlib::ATTNLIB_ISA
