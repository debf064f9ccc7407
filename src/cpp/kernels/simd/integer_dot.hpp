// Dot products of four bytes, or of two words of 16 bits, in every lane, with exact sums of 32 bits: the same on every
// rung. `ATTNLIB_DOT_INT8` is defined where one instruction does it. `code_shift` is what must be taken from codes of
// 0..255 for them to be bytes on the left.
#pragma once

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {

using i32v = mask_vec<float>;
using i16v = VectorOf<std::int16_t>::type;

ATTNLIB_INLINE i32v load_integers(const std::int32_t* source) {
  i32v value;
  __builtin_memcpy(&value, source, sizeof value);
  return value;
}
ATTNLIB_INLINE vec<float> to_float(i32v value) { return __builtin_convertvector(value, vec<float>); }

// Products of neighbouring words of 16 bits with sign, added in pairs; nothing overflows unless all four are -2^15.
ATTNLIB_INLINE i32v multiply_word_pairs(i16v a, i16v b) {
#if defined(__AVX512BW__)
  return bit_cast<i32v>(_mm512_madd_epi16(bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
#elif defined(__AVX2__)
  return bit_cast<i32v>(_mm256_madd_epi16(bit_cast<__m256i>(a), bit_cast<__m256i>(b)));
#elif defined(__SSE2__)
  return bit_cast<i32v>(_mm_madd_epi16(bit_cast<__m128i>(a), bit_cast<__m128i>(b)));
#elif defined(__aarch64__)
  const int16x8_t x = bit_cast<int16x8_t>(a), y = bit_cast<int16x8_t>(b);
  return bit_cast<i32v>(vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
#else
  const i32v x = bit_cast<i32v>(a), y = bit_cast<i32v>(b);
  return ((x << 16) >> 16) * ((y << 16) >> 16) + (x >> 16) * (y >> 16);
#endif
}
ATTNLIB_INLINE i32v dot_word_pairs(i32v sum, i16v a, i16v b) {
#if defined(__AVX512VNNI__)
  return bit_cast<i32v>(_mm512_dpwssd_epi32(bit_cast<__m512i>(sum), bit_cast<__m512i>(a), bit_cast<__m512i>(b)));
#else
  return sum + multiply_word_pairs(a, b);
#endif
}
// One word for the low half of each lane, one for the high half.
ATTNLIB_INLINE i16v word_pairs(i32v low, i32v high) { return bit_cast<i16v>((low & 0xffff) | (high << 16)); }
// The same two in every lane.
ATTNLIB_INLINE i16v word_pair(std::int32_t low, std::int32_t high) {
  const std::uint32_t pair = (static_cast<std::uint32_t>(low) & 0xffffu) | static_cast<std::uint32_t>(high) << 16;
  return bit_cast<i16v>(pair + u32v{});
}

#if defined(__AVX512VNNI__)

// Four unsigned bytes on the left, four signed ones on the right.
#define ATTNLIB_DOT_INT8
inline constexpr std::int32_t code_shift = 0;
using QuadLeft = u32v;
using QuadRight = u32v;
ATTNLIB_INLINE QuadLeft unsigned_quads(u32v bytes) { return bytes; }
ATTNLIB_INLINE QuadRight signed_quads(u32v bytes) { return bytes; }
// By hand: GCC 12 spills the accumulators of _mm512_dpbusd_epi32.
ATTNLIB_INLINE i32v dot_quads(i32v sum, QuadLeft left, QuadRight right) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(left), "v"(right));
  return sum;
}

#elif defined(__ARM_FEATURE_DOTPROD)

// Four signed bytes on both sides; those on the left are at most 127.
#define ATTNLIB_DOT_INT8
inline constexpr std::int32_t code_shift = 128;
using QuadLeft = u32v;
using QuadRight = u32v;
ATTNLIB_INLINE QuadLeft unsigned_quads(u32v bytes) { return bytes; }
ATTNLIB_INLINE QuadRight signed_quads(u32v bytes) { return bytes; }
ATTNLIB_INLINE i32v dot_quads(i32v sum, QuadLeft left, QuadRight right) {
  return bit_cast<i32v>(vdotq_s32(bit_cast<int32x4_t>(sum), bit_cast<int8x16_t>(left), bit_cast<int8x16_t>(right)));
}

#else

// Without such an instruction the bytes are widened to 16 bits, even and odd ones apart, and multiplied by pairs.
inline constexpr std::int32_t code_shift = 0;
struct Words {
  i16v even, odd;
};
using QuadLeft = Words;
using QuadRight = Words;
ATTNLIB_INLINE Words unsigned_quads(u32v bytes) {
  using Unsigned = VectorOf<std::uint16_t>::type;
  const Unsigned words = bit_cast<Unsigned>(bytes);
  return {bit_cast<i16v>(words & 0xff), bit_cast<i16v>(words >> 8)};
}
ATTNLIB_INLINE Words signed_quads(u32v bytes) {
  const i16v words = bit_cast<i16v>(bytes);
  return {(words << 8) >> 8, words >> 8};
}
ATTNLIB_INLINE i32v dot_quads(i32v sum, const Words& left, const Words& right) {
  return sum + (multiply_word_pairs(left.even, right.even) + multiply_word_pairs(left.odd, right.odd));
}

#endif

}  // namespace attnlib::ATTNLIB_ISA
