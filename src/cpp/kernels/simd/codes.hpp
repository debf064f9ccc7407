// Numbers become codes of eight bits, four registers at a time: what packs integers puts two registers into one.
#pragma once

#include "kernels/simd/integer_dot.hpp"

namespace attnlib::ATTNLIB_ISA {

inline constexpr int code_registers = 4;
inline constexpr std::int64_t codes_at_once = code_registers * std::int64_t{lanes<float>};
using CodeRegister = VectorOf<std::uint8_t>::type;

// Of numbers that integers of 32 bits can hold, to the even one of two, as FloatEnvironment has it
// (runtime/float_environment.hpp).
ATTNLIB_INLINE i32v nearest_integers(vec<float> x) {
#if defined(__AVX512BW__)
  return bit_cast<i32v>(_mm512_cvtps_epi32(x));
#elif defined(__AVX2__)
  return bit_cast<i32v>(_mm256_cvtps_epi32(x));
#elif defined(__SSE2__)
  return bit_cast<i32v>(_mm_cvtps_epi32(x));
#elif defined(__aarch64__)
  return bit_cast<i32v>(vcvtnq_s32_f32(bit_cast<float32x4_t>(x)));
#else
  return __builtin_convertvector(round_to_integer(x), i32v);
#endif
}

// One register of them, in order, each cut to 0..255.
ATTNLIB_INLINE CodeRegister codes_of(const i32v (&whole)[code_registers]) {
#if defined(__AVX512BW__)
  const __m512i first = _mm512_packs_epi32(bit_cast<__m512i>(whole[0]), bit_cast<__m512i>(whole[1]));
  const __m512i second = _mm512_packs_epi32(bit_cast<__m512i>(whole[2]), bit_cast<__m512i>(whole[3]));
  // Packed within 128 bits: of each of the four registers a quarter.
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return bit_cast<CodeRegister>(_mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second)));
#elif defined(__AVX2__)
  const __m256i first = _mm256_packs_epi32(bit_cast<__m256i>(whole[0]), bit_cast<__m256i>(whole[1]));
  const __m256i second = _mm256_packs_epi32(bit_cast<__m256i>(whole[2]), bit_cast<__m256i>(whole[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return bit_cast<CodeRegister>(_mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order));
#elif defined(__SSE2__)
  const __m128i first = _mm_packs_epi32(bit_cast<__m128i>(whole[0]), bit_cast<__m128i>(whole[1]));
  const __m128i second = _mm_packs_epi32(bit_cast<__m128i>(whole[2]), bit_cast<__m128i>(whole[3]));
  return bit_cast<CodeRegister>(_mm_packus_epi16(first, second));
#elif defined(__aarch64__)
  const auto half = [&](int i) __attribute__((always_inline)) {
    return vqmovun_s16(
        vcombine_s16(vqmovn_s32(bit_cast<int32x4_t>(whole[i])), vqmovn_s32(bit_cast<int32x4_t>(whole[i + 1]))));
  };
  return bit_cast<CodeRegister>(vcombine_u8(half(0), half(2)));
#else
  CodeRegister codes{};
  for (int i = 0; i < codes_at_once; ++i) {
    const std::int32_t integer = whole[i / lanes<float>][i % lanes<float>];
    codes[i] = static_cast<std::uint8_t>(integer < 0 ? 0 : integer > 255 ? 255 : integer);
  }
  return codes;
#endif
}

}  // namespace attnlib::ATTNLIB_ISA
