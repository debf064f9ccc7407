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

// Whether any lane is set.
template <class C>
ATTNLIB_INLINE bool any(mask_vec<C> mask) {
  return _mm512_test_epi32_mask(bit_cast<__m512i>(mask), bit_cast<__m512i>(mask)) != 0;
}

ATTNLIB_INLINE vec<float> round_to_integer(vec<float> x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
ATTNLIB_INLINE vec<double> round_to_integer(vec<double> x) {
  return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// mantissa * 2^exponent for an integral exponent of any size: overflows to inf, underflows to 0, passes NaN. (The
// instruction takes the floor of another exponent.)
ATTNLIB_INLINE vec<float> scale_by_power(vec<float> mantissa, vec<float> exponent) {
  return _mm512_scalef_ps(mantissa, exponent);
}
ATTNLIB_INLINE vec<double> scale_by_power(vec<double> mantissa, vec<double> exponent) {
  return _mm512_scalef_pd(mantissa, exponent);
}

// On Zen 4 scalef and reduce keep the units that also add busy for two cycles each.
#define ATTNLIB_BUSY_ADDERS 1

// By the shuffles within 128 bits as far as they go, which are faster than those of two whole registers: columns of
// four rows first, then blocks of 4 x 4 change places.
#define ATTNLIB_TRANSPOSE_FLOATS 1
ATTNLIB_INLINE void transpose_floats(vec<float> (&rows)[16]) {
  __m512 columns[16];  // [j * 4 + group]: of the rows of a group, columns j, j + 4, j + 8 and j + 12
#pragma GCC unroll 4
  for (int group = 0; group < 4; ++group) {
    const vec<float>* row = rows + 4 * group;
    const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(row[0], row[1]));
    const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(row[0], row[1]));
    const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(row[2], row[3]));
    const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(row[2], row[3]));
    columns[group] = _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23));
    columns[4 + group] = _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23));
    columns[8 + group] = _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23));
    columns[12 + group] = _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23));
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512* group = columns + 4 * j;
    const __m512 even01 = _mm512_shuffle_f32x4(group[0], group[1], 0x88);
    const __m512 odd01 = _mm512_shuffle_f32x4(group[0], group[1], 0xdd);
    const __m512 even23 = _mm512_shuffle_f32x4(group[2], group[3], 0x88);
    const __m512 odd23 = _mm512_shuffle_f32x4(group[2], group[3], 0xdd);
    rows[j] = _mm512_shuffle_f32x4(even01, even23, 0x88);
    rows[j + 4] = _mm512_shuffle_f32x4(odd01, odd23, 0x88);
    rows[j + 8] = _mm512_shuffle_f32x4(even01, even23, 0xdd);
    rows[j + 12] = _mm512_shuffle_f32x4(odd01, odd23, 0xdd);
  }
}

// What tables of 16 floats want: lane i is the entry that the low four bits of index[i] name. A shuffle with one source
// shares the multipliers' ports less than one with two: on Zen 4 it and a multiply-add take 1.3 cycles together, where
// a table of 32 takes 1.8.
#define ATTNLIB_LOOK_UP 1
ATTNLIB_INLINE vec<float> look_up(const float (&table)[16], vec<float> index) {
  return _mm512_permutexvar_ps(bit_cast<__m512i>(index), _mm512_load_ps(table));
}
// a + b rounded down.
ATTNLIB_INLINE vec<float> add_down(vec<float> a, vec<float> b) {
  return _mm512_add_round_ps(a, b, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
// What x exceeds the next whole number below it by, and the next multiple of 1/16 (0 at the infinities).
ATTNLIB_INLINE vec<float> above_whole(vec<float> x) {
  return _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
ATTNLIB_INLINE vec<float> above_sixteenth(vec<float> x) {
  return _mm512_reduce_ps(x, 4 << 4 | _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
// Whether any lane is at or beyond the limit, or NaN.
ATTNLIB_INLINE bool any_beyond(vec<float> x, float limit) {
  return _mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_NLT_UQ) != 0;
}

using u16half = VectorOf<std::uint16_t, 32>::type;
ATTNLIB_INLINE vec<float> widen_float16(u16half bits) { return _mm512_cvtph_ps(bit_cast<__m256i>(bits)); }
ATTNLIB_INLINE u16half narrow_float16(vec<float> value) {
  return bit_cast<u16half>(_mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

// By hand, as below: GCC 12 converts a register in two halves that it takes apart and puts together.
ATTNLIB_INLINE VectorOf<std::uint32_t>::type widen_halves(u16half halves) {
  return bit_cast<VectorOf<std::uint32_t>::type>(_mm512_cvtepu16_epi32(bit_cast<__m256i>(halves)));
}
// The low 16 bits of every lane of 32.
ATTNLIB_INLINE u16half low_halves(VectorOf<std::uint32_t>::type lanes_of_32) {
  return bit_cast<u16half>(_mm512_cvtepi32_epi16(bit_cast<__m512i>(lanes_of_32)));
}

#if defined(__AVX512BF16__)
// Rounding to bfloat16 and dot products of its pairs are instructions.
#define ATTNLIB_DOT_BFLOAT16 1
// By its bits: what looks at the value takes subnormal numbers for zero, too.
ATTNLIB_INLINE bool any_subnormal(vec<float> value) {
  const __m512i bits = bit_cast<__m512i>(value);
  const __mmask16 no_exponent = _mm512_testn_epi32_mask(bits, _mm512_set1_epi32(0x7f800000));
  return _mm512_mask_test_epi32_mask(no_exponent, bits, _mm512_set1_epi32(0x007fffff)) != 0;
}
ATTNLIB_INLINE u16half convert_to_bfloat16(vec<float> value) { return bit_cast<u16half>(_mm512_cvtneps_pbh(value)); }
#endif

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

// Past the caches; the target is as aligned as a register is long. Who streams ends with end_streaming, before another
// thread reads it.
ATTNLIB_INLINE void stream(float* target, vec<float> value) { _mm512_stream_ps(target, value); }
ATTNLIB_INLINE void stream(double* target, vec<double> value) { _mm512_stream_pd(target, value); }
ATTNLIB_INLINE void end_streaming() { _mm_sfence(); }

}  // namespace attnlib::ATTNLIB_ISA
