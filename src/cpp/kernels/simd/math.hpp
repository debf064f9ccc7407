// Transcendental functions on one register, float and double. The polynomials are minimax fits made by
// tools/fit_polynomials.py. Each function states its range and its largest error, in units in the last place (ULP) of
// the result: measured on the rungs baseline, avx2 and avx512 at every 13th float against the C library's double
// functions, and at a million doubles against quadruple precision.
#pragma once

#include "kernels/simd/vector.hpp"

#if defined(ATTNLIB_LOOK_UP)
#include "kernels/simd/tables.hpp"
#endif

namespace attnlib::ATTNLIB_ISA {

// c[0] + c[1] x + ... + c[N-1] x^(N-1), by Horner's rule.
template <class C, int N>
ATTNLIB_INLINE vec<C> polynomial(const C (&coefficients)[N], vec<C> x) {
  vec<C> sum = broadcast<C>(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, broadcast<C>(coefficients[i]));
  return sum;
}

#if defined(ATTNLIB_LOOK_UP)
// A polynomial in d with the coefficients of each lane's segment, whose number is in the low bits of `segment`.
template <int terms>
ATTNLIB_INLINE vec<float> polynomial_in_segment(const float (&table)[terms][16], vec<float> segment, vec<float> d) {
  vec<float> sum = look_up(table[terms - 1], segment);
#pragma GCC unroll 16
  for (int power = terms - 2; power >= 0; --power) sum = fma(sum, d, look_up(table[power], segment));
  return sum;
}
#endif

// 2^x for x <= 0 (attention's weights: x is a score less its row's maximum), and up to 8 as exactly. At most 1.5 ULP
// (1.1 with tables); exactly 1 at 0 and exactly 0 from 2^-150 (double: 2^-1080) down to -inf; NaN stays NaN.
#if defined(ATTNLIB_LOOK_UP)
// x = k / 16 + rest, rest >= 0: 2^(k / 16) less its whole powers comes from a table, and 2^rest wants three terms only.
ATTNLIB_INLINE vec<float> exp2_nonpositive(vec<float> x) {
  constexpr float fit[] = {0x1.62e4326a11743p-1f, 0x1.ebf0b00ccc995p-3f, 0x1.ce2406e4e529cp-5f};
  const vec<float> rest = above_sixteenth(x);
  // k in the low bits: the sum's unit is 1/16. At -inf and beyond reason any entry does, times 2^x = 0.
  const vec<float> step = look_up(powers_of_two, add_down(x, broadcast<float>(0x1.8p19f)));
  return scale_by_power(fma(step * rest, polynomial(fit, rest), step), x);
}
#else
ATTNLIB_INLINE vec<float> exp2_nonpositive(vec<float> x) {
  constexpr float fit[] = {0x1.00000002614ffp+0f, 0x1.62e430c7e91afp-1f,  0x1.ebfbdadcb136fp-3f, 0x1.c6aed4b95c606p-5f,
                           0x1.3b2dbbc0aa7a3p-7f, 0x1.5f456a867c735p-10f, 0x1.41d333a1fbff9p-13f};
  x = max(broadcast<float>(-160.0f), x);
  const vec<float> whole = round_to_integer(x);
  return scale_by_power(polynomial(fit, x - whole), whole);
}
#endif
ATTNLIB_INLINE vec<double> exp2_nonpositive(vec<double> x) {
  constexpr double fit[] = {0x1.0p+0,
                            0x1.62e42fefa39efp-1,
                            0x1.ebfbdff82c5adp-3,
                            0x1.c6b08d7049fd1p-5,
                            0x1.3b2ab6fb9f413p-7,
                            0x1.5d87fe78cf26dp-10,
                            0x1.43091310bf6b0p-13,
                            0x1.ffcbfba7b89b6p-17,
                            0x1.62bfc3c1c8a7cp-20,
                            0x1.b526788b3b73dp-24,
                            0x1.e620fb765be15p-28,
                            0x1.e7aa0f6005d3cp-32};
  x = max(broadcast<double>(-1100.0), x);
  const vec<double> whole = round_to_integer(x);
  return scale_by_power(polynomial(fit, x - whole), whole);
}

// e^(a - b) for a <= b: two roundings, of the difference and of its product with log2 e, and that of log2 e itself add
// up to 2 |a - b| ULP to the error of 2^x.
template <class C>
ATTNLIB_INLINE vec<C> exp_of_difference(vec<C> a, vec<C> b) {
  return exp2_nonpositive((a - b) * broadcast<C>(static_cast<C>(0x1.71547652b82fep+0)));
}

// ln 2 in two parts, the first so short that its product with an exponent is exact.
template <class C>
inline constexpr C ln2_high = sizeof(C) == 4 ? static_cast<C>(0x1.62e400p-1) : static_cast<C>(0x1.62e42fee00000p-1);
template <class C>
inline constexpr C ln2_low = sizeof(C) == 4 ? static_cast<C>(0x1.7f7d1cp-20) : static_cast<C>(0x1.a39ef35793c76p-33);

// The power of two nearest to e^x.
template <class C>
ATTNLIB_INLINE vec<C> exponent_of_exp(vec<C> x) {
  return round_to_integer(x * broadcast<C>(static_cast<C>(0x1.71547652b82fep+0)));
}

// e^rest * 2^whole for |rest| <= ln(2) / 2.
ATTNLIB_INLINE vec<float> scaled_exp(vec<float> rest, vec<float> whole) {
  constexpr float fit[] = {1.0f,
                           1.0f,
                           0x1.fffffaaf2c9c7p-2f,
                           0x1.55540a777d5c5p-3f,
                           0x1.55589a52c5647p-5f,
                           0x1.126d0f425fb12p-7f,
                           0x1.6ab97d596d8cdp-10f};
  return scale_by_power(polynomial(fit, rest), whole);
}
ATTNLIB_INLINE vec<double> scaled_exp(vec<double> rest, vec<double> whole) {
  constexpr double fit[] = {1.0,
                            1.0,
                            0.5,
                            0x1.5555555555562p-3,
                            0x1.55555555554ecp-5,
                            0x1.111111110dcb5p-7,
                            0x1.6c16c16c333d3p-10,
                            0x1.a01a01b7a32dap-13,
                            0x1.a01a013372596p-16,
                            0x1.71dde8306b771p-19,
                            0x1.27e5aed272195p-22,
                            0x1.af7731f649187p-26,
                            0x1.1e502bda3a784p-29};
  return scale_by_power(polynomial(fit, rest), whole);
}

#if defined(ATTNLIB_LOOK_UP)
// e^x for |x| < 2^13, as exp2_nonpositive does it: x = k ln(2) / 16 + rest, |rest| <= ln(2) / 32.
ATTNLIB_INLINE vec<float> exp_by_sixteenths(vec<float> x) {
  constexpr float fit[] = {1.0f, 0x1.0001ec6608996p-1f, 0x1.555555550d1dap-3f};
  const vec<float> shift = broadcast<float>(0x1.8p19f);
  const vec<float> shifted = fma(x, broadcast<float>(0x1.71547652b82fep+0f), shift);
  const vec<float> power = shifted - shift;
  vec<float> rest = fma(power, broadcast<float>(-ln2_high<float>), x);
  rest = fma(power, broadcast<float>(-ln2_low<float>), rest);
  // The entry's own rounding is made good, or it would be half of the error.
  const vec<float> step = look_up(powers_of_two, shifted);
  const vec<float> more = fma(step, polynomial(fit, rest) * rest, look_up(powers_of_two_lost, shifted));
  return scale_by_power(step + more, power);
}
#endif

// e^x for x <= 0: at most 1.1 ULP (0.6 with tables, 1.4 without FMA), 0 at -inf and where it would be subnormal, NaN at
// NaN. Right for positive x, too, as far as the result is finite.
template <class C>
ATTNLIB_INLINE vec<C> exp_nonpositive(vec<C> x) {
  x = max(broadcast<C>(sizeof(C) == 4 ? C{-110} : C{-760}), x);
#if defined(ATTNLIB_LOOK_UP)
  if constexpr (sizeof(C) == 4) return exp_by_sixteenths(x);
#endif
  const vec<C> whole = exponent_of_exp<C>(x);
  const vec<C> rest = fma(whole, broadcast<C>(-ln2_high<C>), x);
  return scaled_exp(fma(whole, broadcast<C>(-ln2_low<C>), rest), whole);
}

// e^x, every x, with the same error: inf above the range.
ATTNLIB_INLINE vec<float> exp(vec<float> x) { return exp_nonpositive<float>(min(broadcast<float>(90.0f), x)); }
ATTNLIB_INLINE vec<double> exp(vec<double> x) { return exp_nonpositive<double>(min(broadcast<double>(711.0), x)); }

// e^(a b), |a b| at most 110 (double: 760), with the error of e^x where there is FMA: the product enters unrounded.
// Without FMA its rounding adds |a b| / 2 ULP.
template <class C>
ATTNLIB_INLINE vec<C> exp_of_product(vec<C> a, vec<C> b) {
  const vec<C> whole = exponent_of_exp<C>(a * b);
  const vec<C> rest = fma(a, b, whole * broadcast<C>(-ln2_high<C>));
  return scaled_exp(fma(whole, broadcast<C>(-ln2_low<C>), rest), whole);
}

// tanh(x) / x - 1 over x^2, for |x| <= 0.625.
ATTNLIB_INLINE vec<float> tanh_near_zero(vec<float> square) {
  constexpr float fit[] = {-0x1.555524794b19dp-2f, 0x1.1105807f0eae3p-3f, -0x1.b8153ec866064p-5f, 0x1.515cdd5c9b959p-6f,
                           -0x1.72eedba75c71dp-8f};
  return polynomial(fit, square);
}
ATTNLIB_INLINE vec<double> tanh_near_zero(vec<double> square) {
  constexpr double fit[] = {-0x1.55555555554d5p-2,  0x1.111111110963ep-3,  -0x1.ba1ba1b4565d4p-5,
                            0x1.664f47632ec87p-6,   -0x1.226e143b7061dp-7, 0x1.d6cef3e7666fdp-9,
                            -0x1.7d66d81cb8faap-10, 0x1.335bca60f9a64p-11, -0x1.df0b76a3aa25bp-13,
                            0x1.42f95ed6b0b7cp-14,  -0x1.0c98a3109fdb5p-16};
  return polynomial(fit, square);
}

// An odd polynomial near 0, where 1 - 2 / (e^2|x| + 1) would cancel.
template <class C>
ATTNLIB_INLINE vec<C> tanh_by_halves(vec<C> x) {
  const vec<C> size = abs<C>(x);
  const vec<C> square = x * x;
  const vec<C> near = fma(tanh_near_zero(square) * square, x, x);
  const vec<C> one = broadcast<C>(C{1});
  const vec<C> two = broadcast<C>(C{2});
  const vec<C> far = one - two / (exp(size * two) + one);
  return copy_sign<C>(size < broadcast<C>(C{0.625}) ? near : far, x);
}

#if defined(ATTNLIB_LOOK_UP)
// tanh by the segments of tanh_centre. t + 1 gives the number of t's: where it rounds up into the next segment, d is
// off its end by a rounding.
ATTNLIB_INLINE vec<float> tanh_in_segment(vec<float> x) {
  const vec<float> t = min(broadcast<float>(12.0f), abs<float>(x));  // 1 from 9.02 on
  constexpr int mantissa_below_first_two = 21;
  const vec<float> segment =
      bit_cast<vec<float>>(bit_cast<mask_vec<float>>(t + broadcast<float>(1.0f)) >> mantissa_below_first_two);
  const vec<float> d = t - look_up(tanh_centre, segment);
  return copy_sign<float>(polynomial_in_segment(tanh_terms, segment, d), x);
}
#endif

// tanh, at most 1.4 ULP; -0 at -0.
#if defined(ATTNLIB_LOOK_UP)
ATTNLIB_INLINE vec<float> tanh(vec<float> x) { return tanh_in_segment(x); }
#else
ATTNLIB_INLINE vec<float> tanh(vec<float> x) { return tanh_by_halves<float>(x); }
#endif
ATTNLIB_INLINE vec<double> tanh(vec<double> x) { return tanh_by_halves<double>(x); }

// 1 / (1 + e^-x), at most 2.5 ULP: as e^x / (1 + e^x) for negative x, where e^-x would overflow before the result
// underflows.
template <class C>
ATTNLIB_INLINE vec<C> sigmoid(vec<C> x) {
  const vec<C> one = broadcast<C>(C{1});
  const vec<C> small = exp_nonpositive<C>(-abs<C>(x));
  return (x < zero<C>() ? small : one) / (one + small);
}

// Phi(-t) e^(t^2 / 2) / u over u - 1/2, where u = 1 / (1 + mills_scale t): smooth for all t >= 0, after W. J. Cody's
// idea of separating the exponential. The variable is centred, or the terms would cancel.
template <class C>
inline constexpr C mills_scale = sizeof(C) == 4 ? static_cast<C>(0.375) : static_cast<C>(0.25);
ATTNLIB_INLINE vec<float> mills_ratio(vec<float> centred) {
  constexpr float fit[] = {0x1.129e60655509dp-2f, 0x1.626a2d81479f9p-2f,  0x1.fd59f9b4ccb0fp-3f,
                           0x1.67654f2021483p-6f, -0x1.a4314b72665cfp-4f, -0x1.3f83c8782982dp-6f,
                           0x1.07582526b7194p-4f, -0x1.8c24d06f46e59p-9f, -0x1.453a65bc86191p-5f,
                           0x1.50ab625d0618bp-6f};
  return polynomial(fit, centred);
}
ATTNLIB_INLINE vec<double> mills_ratio(vec<double> centred) {
  constexpr double fit[] = {
      0x1.82b4bb8c94dcep-3,  0x1.373e3a893c27ep-2,  0x1.8c6dbf2cfc349p-2,   0x1.7dff2bff69747p-2,
      0x1.eec4cc3e3f6e6p-3,  0x1.ee2760ffd3339p-5,  -0x1.c81719c49ed47p-5,  -0x1.ab825ebf37081p-5,
      0x1.17a4a3304637ep-7,  0x1.e4a3e8cf184a2p-6,  -0x1.000c6bedb1852p-11, -0x1.26cc58a4de29ep-6,
      0x1.7f828666136e0p-11, 0x1.8cec6df10411fp-7,  -0x1.4e921499f2cb1p-9,  -0x1.0fabe76bc3fdcp-7,
      0x1.170982c55d0c6p-8,  0x1.38a6a1d1a4753p-8,  -0x1.33effa3a59162p-8,  -0x1.39067deb5ed98p-10,
      0x1.6ed1623e56f1ep-9,  -0x1.acb9fb9a19878p-11};
  return polynomial(fit, centred);
}

// Phi(-t), the upper tail of the standard normal distribution, for t >= 0.
template <class C>
ATTNLIB_INLINE vec<C> upper_tail(vec<C> t) {
  const vec<C> one = broadcast<C>(C{1});
  const vec<C> size = min(broadcast<C>(sizeof(C) == 4 ? C{15} : C{39}), t);  // it underflows from there
  const vec<C> u = one / fma(size, broadcast<C>(mills_scale<C>), one);
  const vec<C> ratio = u * mills_ratio(u - broadcast<C>(C{0.5}));
  return ratio * exp_of_product<C>(size, size * broadcast<C>(C{-0.5}));
}

// gelu(x) = x * Phi(x) = max(x, 0) - |x| Phi(-|x|), from the tail alone: nothing cancels on either side.
template <class C>
ATTNLIB_INLINE vec<C> gelu_by_formula(vec<C> x) {
  // +inf has no product; -inf has, a NaN.
  const vec<C> t = abs<C>(min(broadcast<C>(C{1000}), x));
  return fma(-t, upper_tail<C>(t), max(zero<C>(), x));
}

#if defined(ATTNLIB_LOOK_UP)
// The lanes where |x| >= near_limit, which are few where activations are of the usual size: the same with a table of
// their own up to 7.875, the formula beyond. Lanes below come out as anything.
inline constexpr float near_limit = 3.875f, far_limit = 7.875f;
[[maybe_unused]] static __attribute__((noinline, cold)) vec<float> gelu_far(vec<float> x) noexcept {
  const vec<float> shift = broadcast<float>(0x1.8p21f);
  const vec<float> t = abs<float>(x);
  const vec<float> shifted = t + shift;
  const vec<float> tail = polynomial_in_segment(far_tail, shifted, t - (shifted - shift));
  const vec<float> result = fma(-t, tail, max(zero<float>(), x));
  if (!any_beyond(t, far_limit)) return result;
  return t < broadcast<float>(far_limit) ? result : gelu_by_formula<float>(x);
}
#endif

// The exact GELU, x * Phi(x) (D. Hendrycks and K. Gimpel, 2016, arXiv:1606.08415), Phi being the distribution function
// of the standard normal. At most 6 ULP (double: 8) while Phi(x) is a normal number, x > -12.9 (-37.5), in the
// lower tail too, where 1 + erf would cancel; without FMA x^2 / 2 ULP more for negative x. NaN at -inf, as x * Phi(x)
// is.
template <class C>
ATTNLIB_INLINE vec<C> gelu(vec<C> x) {
#if defined(ATTNLIB_LOOK_UP)
  if constexpr (sizeof(C) == 4) {
    const vec<float> shift = broadcast<float>(0x1.8p21f);  // the sum's unit is 1/4
    const vec<float> t = abs<float>(x);
    const vec<float> shifted = t + shift;
    const vec<float> tail = polynomial_in_segment(near_tail, shifted, t - (shifted - shift));
    const vec<float> result = fma(-t, tail, max(zero<float>(), x));
    if (__builtin_expect(!any_beyond(t, near_limit), 1)) return result;
    return t < broadcast<float>(near_limit) ? result : gelu_far(x);
  }
#endif
  return gelu_by_formula<C>(x);
}

// The same paper's approximation by tanh, at most 4 ULP for x >= -1; below, its exponent's rounding adds y ULP, y being
// the argument of the sigmoid. NaN at -inf.
template <class C>
ATTNLIB_INLINE vec<C> gelu_tanh(vec<C> x) {
  const vec<C> inner = x * fma(x * x, broadcast<C>(C(0.044715)), broadcast<C>(C{1}));
  // 0.5 (1 + tanh y) = sigmoid(2 y), which does not cancel for negative y
  return x * sigmoid<C>(inner * broadcast<C>(C(1.5957691216057308)));
}

// x * sigmoid(x), at most 3.2 ULP while e^x is a normal number, x > -87 (double: -708). NaN at -inf.
template <class C>
ATTNLIB_INLINE vec<C> silu(vec<C> x) {
  return x * sigmoid<C>(x);
}

// Exact: by the sign's bit, since comparisons take subnormal numbers for zero. NaN stays NaN.
template <class C>
ATTNLIB_INLINE vec<C> relu(vec<C> x) {
  const mask_vec<C> negative = bit_cast<mask_vec<C>>(x) < mask_vec<C>{};
  return (negative & (x == x)) ? zero<C>() : x;
}

template <class C>
ATTNLIB_INLINE vec<C> activate(Activation kind, vec<C> x) {
  switch (kind) {
    case Activation::relu:
      return relu<C>(x);
    case Activation::gelu:
      return gelu<C>(x);
    case Activation::gelu_tanh:
      return gelu_tanh<C>(x);
    case Activation::silu:
      return silu<C>(x);
    case Activation::tanh:
      return tanh(x);
    case Activation::sigmoid:
      return sigmoid<C>(x);
    case Activation::none:
      break;
  }
  return x;
}

}  // namespace attnlib::ATTNLIB_ISA
