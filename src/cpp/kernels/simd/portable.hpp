// What a family without masked memory access or scalef shares: tails through a small buffer, powers of two by bits.
#pragma once

namespace attnlib::ATTNLIB_ISA {

template <class C>
ATTNLIB_INLINE vec<C> load_first(const C* source, int count) {
  vec<C> value{};
  __builtin_memcpy(&value, source, static_cast<unsigned>(count) * sizeof(C));
  return value;
}
template <class C>
ATTNLIB_INLINE void store_first(C* target, vec<C> value, int count) {
  __builtin_memcpy(target, &value, static_cast<unsigned>(count) * sizeof(C));
}

using u16half = VectorOf<std::uint16_t, vector_bytes / 2>::type;
ATTNLIB_INLINE u16half load_first_u16(const void* source, int count) {
  u16half value{};
  __builtin_memcpy(&value, source, static_cast<unsigned>(count) * 2u);
  return value;
}
ATTNLIB_INLINE void store_first_u16(void* target, u16half value, int count) {
  __builtin_memcpy(target, &value, static_cast<unsigned>(count) * 2u);
}

// mantissa * 2^exponent for an integral exponent of any size: overflows to inf, underflows to 0, passes NaN. Two
// factors, because the result may be subnormal while 2^exponent is not representable in one.
template <class C>
ATTNLIB_INLINE vec<C> scale_by_power_bits(vec<C> mantissa, vec<C> exponent) {
  using Integer = lane_integer<C>;
  constexpr int mantissa_bits = sizeof(C) == 4 ? 23 : 52;
  constexpr Integer exponent_bias = sizeof(C) == 4 ? 127 : 1023;
  constexpr C largest = sizeof(C) == 4 ? C{252} : C{2044};
  // NaN compares false, is not clamped, converts to some integer and leaves through the mantissa, which is NaN too.
  const vec<C> low = broadcast<C>(-largest);
  const vec<C> high = broadcast<C>(largest);
  vec<C> clamped = exponent < low ? low : exponent;
  clamped = clamped > high ? high : clamped;
  clamped = clamped == clamped ? clamped : zero<C>();
  const mask_vec<C> whole = __builtin_convertvector(clamped, mask_vec<C>);
  const mask_vec<C> half = whole >> 1;
  const vec<C> first = bit_cast<vec<C>>((half + exponent_bias) << mantissa_bits);
  const vec<C> second = bit_cast<vec<C>>((whole - half + exponent_bias) << mantissa_bits);
  return mantissa * first * second;
}
ATTNLIB_INLINE vec<float> scale_by_power(vec<float> mantissa, vec<float> exponent) {
  return scale_by_power_bits<float>(mantissa, exponent);
}
ATTNLIB_INLINE vec<double> scale_by_power(vec<double> mantissa, vec<double> exponent) {
  return scale_by_power_bits<double>(mantissa, exponent);
}

}  // namespace attnlib::ATTNLIB_ISA
