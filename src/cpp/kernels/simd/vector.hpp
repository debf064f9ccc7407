// The SIMD vocabulary: one register of C lanes (float or double), spelled with the compiler's own vector types, so
// that one source serves every rung. +, -, *, comparisons, &, | and (mask ? a : b) are the compiler's; what it cannot
// express (fused multiply-add without -ffp-contract, rounding, masked memory access, half-precision conversion) comes
// from one header per instruction family, chosen at the end of this file.
//
// Contraction is off (-ffp-contract=off): a multiply-add is fused exactly where fma() is written, so a result has the
// same bits whichever loop (full vectors, tail, another tile height) computed it.
#pragma once

#include "attnlib/dtype.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Everything is force-inlined: even a Debug build emits no out-of-line copy of the vocabulary.
#define ATTNLIB_INLINE static inline __attribute__((always_inline))

namespace attnlib::ATTNLIB_ISA {

#if defined(__AVX512F__)
inline constexpr int vector_bytes = 64;
#elif defined(__AVX2__)
inline constexpr int vector_bytes = 32;
#else
inline constexpr int vector_bytes = 16;
#endif

// The integer type as wide as a lane of C; comparisons of lanes yield it (0 or -1).
template <class C>
struct LaneInteger;
template <>
struct LaneInteger<float> {
  using type = std::int32_t;
};
template <>
struct LaneInteger<double> {
  using type = std::int64_t;
};
template <class C>
using lane_integer = typename LaneInteger<C>::type;

// GCC keeps a vector_size attribute that depends on a template parameter only on a member typedef.
template <class C, int Bytes = vector_bytes>
struct VectorOf {
  typedef C type __attribute__((vector_size(Bytes)));
};
template <class C>
using vec = typename VectorOf<C>::type;
template <class C>
using mask_vec = typename VectorOf<lane_integer<C>>::type;

template <class C>
inline constexpr int lanes = vector_bytes / static_cast<int>(sizeof(C));

// The type that elements of T are computed in.
template <class T>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};
template <class T>
using compute_type = typename ComputeType<T>::type;

template <class To, class From>
ATTNLIB_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

template <class C>
ATTNLIB_INLINE vec<C> broadcast(C value) {
  return value - vec<C>{};  // x - (+0) is x for every x, NaN and -0 included; the compiler folds it to a broadcast
}

template <class C>
ATTNLIB_INLINE vec<C> zero() {
  return vec<C>{};
}

template <class C>
ATTNLIB_INLINE mask_vec<C> broadcast_integer(lane_integer<C> value) {
  return value + mask_vec<C>{};
}

// 0, 1, 2, ... in the lanes.
template <class C>
ATTNLIB_INLINE mask_vec<C> lane_index() {
  mask_vec<C> index{};
  for (int lane = 0; lane < lanes<C>; ++lane) index[lane] = lane;
  return index;
}

template <class C>
ATTNLIB_INLINE vec<C> load_same(const C* source) {
  vec<C> value;
  __builtin_memcpy(&value, source, sizeof value);
  return value;
}

template <class C>
ATTNLIB_INLINE void store_same(C* target, vec<C> value) {
  __builtin_memcpy(target, &value, sizeof value);
}

}  // namespace attnlib::ATTNLIB_ISA

#if defined(__AVX512F__)
#include "kernels/simd/x86_avx512.hpp"
#elif defined(__AVX2__)
#include "kernels/simd/x86_avx2.hpp"
#elif defined(__aarch64__)
#include "kernels/simd/neon.hpp"
#else
#include "kernels/simd/generic.hpp"
#endif

namespace attnlib::ATTNLIB_ISA {

template <class C>
ATTNLIB_INLINE vec<C> abs(vec<C> x) {
  using Integer = lane_integer<C>;
  const auto sign = broadcast_integer<C>(static_cast<Integer>(Integer{1} << (8 * sizeof(Integer) - 1)));
  return bit_cast<vec<C>>(bit_cast<mask_vec<C>>(x) & ~sign);
}

template <class C>
ATTNLIB_INLINE vec<C> copy_sign(vec<C> magnitude, vec<C> sign_of) {
  using Integer = lane_integer<C>;
  const auto sign = broadcast_integer<C>(static_cast<Integer>(Integer{1} << (8 * sizeof(Integer) - 1)));
  return bit_cast<vec<C>>((bit_cast<mask_vec<C>>(magnitude) & ~sign) | (bit_cast<mask_vec<C>>(sign_of) & sign));
}

// ---- memory: T in memory, compute_type<T> in lanes -------------------------------------------------------------

using u32v = VectorOf<std::uint32_t>::type;
using u16v = VectorOf<std::uint16_t, vector_bytes / 2>::type;

ATTNLIB_INLINE vec<float> widen_bfloat16(u16v bits) { return bit_cast<vec<float>>(widen_halves(bits) << 16); }

// Round to nearest even; a NaN stays a (quiet) NaN instead of rounding to infinity.
ATTNLIB_INLINE u16v narrow_bfloat16(vec<float> value) {
#if defined(ATTNLIB_DOT_BFLOAT16)
  // The instruction takes subnormal numbers for zero; where there are none it rounds as is done below.
  if (!any_subnormal(value)) return convert_to_bfloat16(value);
#endif
  const u32v bits = bit_cast<u32v>(value);
  const u32v rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const u32v quiet = (bits >> 16) | 0x40u;
  const auto is_nan = value != value;
  return low_halves(bit_cast<u32v>(is_nan ? bit_cast<mask_vec<float>>(quiet) : bit_cast<mask_vec<float>>(rounded)));
}

ATTNLIB_INLINE vec<float> load(const float* source) { return load_same(source); }
ATTNLIB_INLINE vec<double> load(const double* source) { return load_same(source); }
ATTNLIB_INLINE vec<float> load(const bfloat16* source) {
  u16v bits;
  __builtin_memcpy(&bits, source, sizeof bits);
  return widen_bfloat16(bits);
}
ATTNLIB_INLINE vec<float> load(const float16* source) {
  u16v bits;
  __builtin_memcpy(&bits, source, sizeof bits);
  return widen_float16(bits);
}

ATTNLIB_INLINE void store(float* target, vec<float> value) { store_same(target, value); }
ATTNLIB_INLINE void store(double* target, vec<double> value) { store_same(target, value); }
ATTNLIB_INLINE void store(bfloat16* target, vec<float> value) {
  const u16v bits = narrow_bfloat16(value);
  __builtin_memcpy(target, &bits, sizeof bits);
}
ATTNLIB_INLINE void store(float16* target, vec<float> value) {
  const u16v bits = narrow_float16(value);
  __builtin_memcpy(target, &bits, sizeof bits);
}

// Registers of results of arithmetic. These are never subnormal (runtime/float_environment.hpp), so bfloat16 needs no
// look for what its instruction takes for zero.
template <int Count, class T, class Vector>
ATTNLIB_INLINE void store_results(T* target, const Vector (&results)[Count]) {
#pragma GCC unroll 4
  for (int i = 0; i < Count; ++i) store(target + i * lanes<compute_type<T>>, results[i]);
}
#if defined(ATTNLIB_DOT_BFLOAT16)
template <int Count>
ATTNLIB_INLINE void store_results(bfloat16* target, const vec<float> (&results)[Count]) {
#pragma GCC unroll 2
  for (int i = 0; i + 1 < Count; i += 2) {
    const __m512bh both = _mm512_cvtne2ps_pbh(results[i + 1], results[i]);
    __builtin_memcpy(target + i * lanes<float>, &both, sizeof both);
  }
  if constexpr (Count % 2 == 1) {
    const __m256bh last = _mm512_cvtneps_pbh(results[Count - 1]);
    __builtin_memcpy(target + (Count - 1) * lanes<float>, &last, sizeof last);
  }
}
#endif

// The first `count` (0 <= count < lanes) elements; the other lanes read as zero and no byte beyond is touched.
ATTNLIB_INLINE vec<float> load_partial(const float* source, int count) { return load_first(source, count); }
ATTNLIB_INLINE vec<double> load_partial(const double* source, int count) { return load_first(source, count); }
ATTNLIB_INLINE vec<float> load_partial(const bfloat16* source, int count) {
  return widen_bfloat16(load_first_u16(source, count));
}
ATTNLIB_INLINE vec<float> load_partial(const float16* source, int count) {
  return widen_float16(load_first_u16(source, count));
}

ATTNLIB_INLINE void store_partial(float* target, vec<float> value, int count) { store_first(target, value, count); }
ATTNLIB_INLINE void store_partial(double* target, vec<double> value, int count) { store_first(target, value, count); }
ATTNLIB_INLINE void store_partial(bfloat16* target, vec<float> value, int count) {
  store_first_u16(target, narrow_bfloat16(value), count);
}
ATTNLIB_INLINE void store_partial(float16* target, vec<float> value, int count) {
  store_first_u16(target, narrow_float16(value), count);
}

// Which of `count` lanes take part: flags as NumPy stores them, one byte each. Widened step by step, for which GCC has
// instructions; a direct conversion it does a lane at a time.
template <class C>
ATTNLIB_INLINE mask_vec<C> load_flags(const bool* mask, int count) {
  using Bytes = typename VectorOf<std::int8_t, lanes<C>>::type;
  using Words = typename VectorOf<std::int16_t, 2 * lanes<C>>::type;
  using Integers = typename VectorOf<std::int32_t, 4 * lanes<C>>::type;
  Bytes bytes{};
  if (count >= lanes<C>)
    __builtin_memcpy(&bytes, mask, sizeof bytes);
  else
    __builtin_memcpy(&bytes, mask, static_cast<unsigned>(count) % lanes<C>);
  const Integers flags = __builtin_convertvector(__builtin_convertvector(bytes, Words), Integers);
  if constexpr (sizeof(C) == 4)
    return flags != Integers{};
  else
    return __builtin_convertvector(flags, mask_vec<C>) != mask_vec<C>{};
}

// ---- pairs of bfloat16 ------------------------------------------------------------------------------------------
// What the dot-product instructions of bfloat16 take: each lane holds two neighbours along a reduction, the first in
// the low half.

// sum + first(a) first(b) + second(a) second(b), lane by lane. `ATTNLIB_DOT_BFLOAT16` is defined where one instruction
// does it; that one takes subnormal numbers for zero and rounds once or twice in an order of its own.
#if defined(ATTNLIB_DOT_BFLOAT16)
ATTNLIB_INLINE vec<float> dot_pairs(vec<float> sum, u32v a, u32v b) {
  return _mm512_dpbf16_ps(sum, bit_cast<__m512bh>(a), bit_cast<__m512bh>(b));
}
// Two rows of 32 elements as 32 pairs (first[i], second[i]): those of the first 16 columns, and of the other 16.
struct PairsOfRows {
  u32v low, high;
};
ATTNLIB_INLINE PairsOfRows interleave(u32v first, u32v second) {
  using u16w = VectorOf<std::uint16_t>::type;
  u16w low{}, high{};
  for (int i = 0; i < 32; ++i) {
    low[i] = static_cast<std::uint16_t>(i / 2 + i % 2 * 32);
    high[i] = static_cast<std::uint16_t>(low[i] + 16);
  }
  const __m512i a = bit_cast<__m512i>(first), b = bit_cast<__m512i>(second);
  return {bit_cast<u32v>(_mm512_permutex2var_epi16(a, bit_cast<__m512i>(low), b)),
          bit_cast<u32v>(_mm512_permutex2var_epi16(a, bit_cast<__m512i>(high), b))};
}
// The same by instructions within 128 bits: columns 0 to 3, 8 to 11, 16 to 19 and 24 to 27, then the others.
ATTNLIB_INLINE PairsOfRows interleave_within(u32v first, u32v second) {
  const __m512i a = bit_cast<__m512i>(first), b = bit_cast<__m512i>(second);
  return {bit_cast<u32v>(_mm512_unpacklo_epi16(a, b)), bit_cast<u32v>(_mm512_unpackhi_epi16(a, b))};
}
// Columns 0 to 15, and 16 to 31, of what lies in that order.
ATTNLIB_INLINE vec<float> first_of_interleaved(vec<float> low, vec<float> high) {
  const __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  return _mm512_permutex2var_ps(low, index, high);
}
ATTNLIB_INLINE vec<float> second_of_interleaved(vec<float> low, vec<float> high) {
  const __m512i index = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  return _mm512_permutex2var_ps(low, index, high);
}
// The first `count` (0..32) elements as pairs, zeros after them; no byte beyond is touched.
ATTNLIB_INLINE u32v load_pairs_partial(const bfloat16* source, int count) {
  const auto mask = static_cast<__mmask32>((std::uint64_t{1} << count) - 1u);
  return bit_cast<u32v>(_mm512_maskz_loadu_epi16(mask, source));
}
// Round to nearest even, by the instruction: subnormal numbers become zero.
ATTNLIB_INLINE u16v narrow_weights(vec<float> value) { return bit_cast<u16v>(_mm512_cvtneps_pbh(value)); }
// Cut to bfloat16: the upper halves of two registers, lane by lane a pair.
ATTNLIB_INLINE u32v upper_halves(vec<float> first, vec<float> second) {
  return bit_cast<u32v>(
      _mm512_mask_blend_epi16(0xaaaaaaaau, bit_cast<__m512i>(bit_cast<u32v>(first) >> 16), bit_cast<__m512i>(second)));
}
#endif

// For what several multiply-adds read: GCC 12 would load it again for each of them, and Zen 4 loads one register of 64
// bytes a cycle.
template <class V>
ATTNLIB_INLINE V keep_in_register(V value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#elif defined(__aarch64__)
  asm("" : "+w"(value));
#endif
  return value;
}

// a + b, by a multiply-add where that relieves the adders.
template <class C>
ATTNLIB_INLINE vec<C> add_on_multipliers(vec<C> a, vec<C> b) {
#if defined(ATTNLIB_BUSY_ADDERS)
  return fma(a, broadcast<C>(C{1}), b);
#else
  return a + b;
#endif
}

ATTNLIB_INLINE vec<float> first_of_pairs(u32v pairs) { return bit_cast<vec<float>>(pairs << 16); }
ATTNLIB_INLINE vec<float> second_of_pairs(u32v pairs) { return bit_cast<vec<float>>(pairs & 0xffff0000u); }

ATTNLIB_INLINE u32v load_pairs(const void* source) {
  u32v pairs;
  __builtin_memcpy(&pairs, source, sizeof pairs);
  return pairs;
}
// The two elements at `source` in every lane.
ATTNLIB_INLINE u32v broadcast_pair(const bfloat16* source) {
  std::uint32_t pair;
  __builtin_memcpy(&pair, source, sizeof pair);
  return pair + u32v{};
}

// ---- lanes among themselves ------------------------------------------------------------------------------------

// Lane i of the result is lane index[i] of a and b laid end to end.
template <class C>
ATTNLIB_INLINE vec<C> pick_lanes(vec<C> a, vec<C> b, mask_vec<C> index) {
#if defined(__clang__)
  vec<C> picked{};
  for (int lane = 0; lane < lanes<C>; ++lane) {
    const int source = static_cast<int>(index[lane]);
    picked[lane] = source < lanes<C> ? a[source] : b[source - lanes<C>];
  }
  return picked;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

// Every lane changes places with the one `distance` (a power of two) away from it.
template <class C>
ATTNLIB_INLINE vec<C> exchange_lanes(vec<C> value, int distance) {
  return pick_lanes<C>(value, value, lane_index<C>() ^ broadcast_integer<C>(distance));
}

// Reductions by halves: the order depends on the register width alone.
template <class C>
ATTNLIB_INLINE C reduce_add(vec<C> value) {
#pragma GCC unroll 4
  for (int width = lanes<C> / 2; width > 0; width /= 2) value += exchange_lanes<C>(value, width);
  return value[0];
}

// NaN if any lane is.
template <class C>
ATTNLIB_INLINE C reduce_max(vec<C> value) {
#pragma GCC unroll 4
  for (int width = lanes<C> / 2; width > 0; width /= 2) {
    const vec<C> other = exchange_lanes<C>(value, width);
    value = value != value ? value : max(value, other);
  }
  return value[0];
}

}  // namespace attnlib::ATTNLIB_ISA
