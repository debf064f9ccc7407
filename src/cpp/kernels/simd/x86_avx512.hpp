// AVX-512 (F, BW, DQ, VL): 32 registers of 16 floats or 8 doubles, masked memory access, scalef.
#pragma once

namespace attnlib::ATTNLIB_ISA {

// Register budget: 24 accumulators + 3 panel vectors + 1 broadcast of 32 registers.
inline constexpr int product_rows = 8;
inline constexpr int attention_rows = 8;
inline constexpr int product_vectors = 3;

ATTNLIB_INLINE vec<float> fma(vec<float> a, vec<float> b, vec<float> c) { return _mm512_fmadd_ps(a, b, c); }
ATTNLIB_INLINE vec<double> fma(vec<double> a, vec<double> b, vec<double> c) { return _mm512_fmadd_pd(a, b, c); }

// max(a, b) and min(a, b) are b where either is NaN, so max(limit, x) clamps x and lets a NaN in x through.
ATTNLIB_INLINE vec<float> max(vec<float> a, vec<float> b) { return _mm512_max_ps(a, b); }
ATTNLIB_INLINE vec<double> max(vec<double> a, vec<double> b) { return _mm512_max_pd(a, b); }
ATTNLIB_INLINE vec<float> min(vec<float> a, vec<float> b) { return _mm512_min_ps(a, b); }
ATTNLIB_INLINE vec<double> min(vec<double> a, vec<double> b) { return _mm512_min_pd(a, b); }

ATTNLIB_INLINE vec<float> round_to_integer(vec<float> x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
ATTNLIB_INLINE vec<double> round_to_integer(vec<double> x) {
  return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// mantissa * 2^floor(exponent) for an exponent of any size: overflows to inf, underflows to 0, passes NaN.
#define ATTNLIB_SCALE_FLOORS 1
ATTNLIB_INLINE vec<float> scale_by_power(vec<float> mantissa, vec<float> exponent) {
  return _mm512_scalef_ps(mantissa, exponent);
}
ATTNLIB_INLINE vec<double> scale_by_power(vec<double> mantissa, vec<double> exponent) {
  return _mm512_scalef_pd(mantissa, exponent);
}

// x - floor(x); 0 at -inf.
ATTNLIB_INLINE vec<float> fraction(vec<float> x) {
  return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

using u16half = VectorOf<std::uint16_t, 32>::type;
ATTNLIB_INLINE vec<float> widen_float16(u16half bits) { return _mm512_cvtph_ps(bit_cast<__m256i>(bits)); }
ATTNLIB_INLINE u16half narrow_float16(vec<float> value) {
  return bit_cast<u16half>(_mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

ATTNLIB_INLINE unsigned first_mask(int count) { return (1u << count) - 1u; }

ATTNLIB_INLINE vec<float> load_first(const float* source, int count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_mask(count)), source);
}
ATTNLIB_INLINE vec<double> load_first(const double* source, int count) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(first_mask(count)), source);
}
ATTNLIB_INLINE u16half load_first_u16(const void* source, int count) {
  return bit_cast<u16half>(_mm256_maskz_loadu_epi16(static_cast<__mmask16>(first_mask(count)), source));
}
ATTNLIB_INLINE void store_first(float* target, vec<float> value, int count) {
  _mm512_mask_storeu_ps(target, static_cast<__mmask16>(first_mask(count)), value);
}
ATTNLIB_INLINE void store_first(double* target, vec<double> value, int count) {
  _mm512_mask_storeu_pd(target, static_cast<__mmask8>(first_mask(count)), value);
}
ATTNLIB_INLINE void store_first_u16(void* target, u16half value, int count) {
  _mm256_mask_storeu_epi16(target, static_cast<__mmask16>(first_mask(count)), bit_cast<__m256i>(value));
}

}  // namespace attnlib::ATTNLIB_ISA
