// AVX2 with FMA and F16C: 16 registers of 8 floats or 4 doubles.
#pragma once

#include "kernels/simd/portable.hpp"

namespace attnlib::ATTNLIB_ISA {

// Register budget: 12 accumulators + 2 panel vectors + 1 broadcast of 16 registers.
inline constexpr int product_rows = 6;
inline constexpr int attention_rows = 6;
inline constexpr int product_vectors = 2;

ATTNLIB_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) { return _mm256_fmadd_ps(a, b, c); }
ATTNLIB_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) { return _mm256_fmadd_pd(a, b, c); }

// max(a, b) and min(a, b) are b where either is NaN, so max(limit, x) clamps x and lets a NaN in x through.
ATTNLIB_INLINE vec<float> max(vec<float> a, vec<float> b) { return _mm256_max_ps(a, b); }
ATTNLIB_INLINE vec<double> max(vec<double> a, vec<double> b) { return _mm256_max_pd(a, b); }
ATTNLIB_INLINE vec<float> min(vec<float> a, vec<float> b) { return _mm256_min_ps(a, b); }
ATTNLIB_INLINE vec<double> min(vec<double> a, vec<double> b) { return _mm256_min_pd(a, b); }

// Whether any lane is set.
template <class C>
ATTNLIB_INLINE bool any(mask_vec<C> mask) {
  return _mm256_testz_si256(bit_cast<__m256i>(mask), bit_cast<__m256i>(mask)) == 0;
}

ATTNLIB_INLINE vec<float> round_to_integer(vec<float> x) {
  return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
ATTNLIB_INLINE vec<double> round_to_integer(vec<double> x) {
  return _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// By hand: GCC 12 converts a register in two halves that it takes apart and puts together.
ATTNLIB_INLINE VectorOf<std::uint32_t>::type widen_halves(u16half halves) {
  return bit_cast<VectorOf<std::uint32_t>::type>(_mm256_cvtepu16_epi32(bit_cast<__m128i>(halves)));
}
// The low 16 bits of every lane of 32: packed within halves of the register, which are then put together.
ATTNLIB_INLINE u16half low_halves(VectorOf<std::uint32_t>::type lanes_of_32) {
  const __m256i words = bit_cast<__m256i>(lanes_of_32 & 0xffffu);
  const __m256i packed = _mm256_packus_epi32(words, words);
  return bit_cast<u16half>(_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}

ATTNLIB_INLINE vec<float> widen_float16(u16half bits) { return _mm256_cvtph_ps(bit_cast<__m128i>(bits)); }
ATTNLIB_INLINE u16half narrow_float16(vec<float> value) {
  return bit_cast<u16half>(_mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// Past the caches; the target is as aligned as a register is long. Who streams ends with end_streaming, before another
// thread reads it.
ATTNLIB_INLINE void stream(float* target, vec<float> value) { _mm256_stream_ps(target, value); }
ATTNLIB_INLINE void stream(double* target, vec<double> value) { _mm256_stream_pd(target, value); }
ATTNLIB_INLINE void end_streaming() { _mm_sfence(); }

}  // namespace attnlib::ATTNLIB_ISA
