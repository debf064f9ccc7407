// Transcendental functions on one register. Each states its error and its range; the polynomials are minimax fits made
// by tools/fit_polynomials.py. In float they are vectorised; in double only the exponentials are, the rest calls the C
// library a lane at a time (float64 serves checking, not speed).
#pragma once

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {

// c[0] + c[1] x + ... + c[N-1] x^(N-1), by Horner's rule.
template <class C, int N>
ATTNLIB_INLINE vec<C> polynomial(const C (&coefficients)[N], vec<C> x) {
  vec<C> sum = broadcast<C>(coefficients[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, broadcast<C>(coefficients[i]));
  return sum;
}

// 2^x for x <= 0 (attention's weights: x is a score less its row's maximum). At most 1.5 ULP; exactly 1 at 0 and
// exactly 0 from 2^-150 (double: 2^-1080) down to -inf; NaN stays NaN.
ATTNLIB_INLINE vec<float> exp2_nonpositive(vec<float> x) {
  constexpr float fit[] = {0x1.00000002614ffp+0f, 0x1.62e430c7e91afp-1f, 0x1.ebfbdadcb136fp-3f, 0x1.c6aed4b95c606p-5f,
                           0x1.3b2dbbc0aa7a3p-7f, 0x1.5f456a867c735p-10f, 0x1.41d333a1fbff9p-13f};
  x = max(broadcast<float>(-160.0f), x);
  const vec<float> whole = round_to_integer(x);
  return scale_by_power(polynomial(fit, x - whole), whole);
}
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

// e^x, every x: at most 1.5 ULP (subnormal results: half a ULP more), 0 at -inf, inf above the range, NaN at NaN.
// ln 2 is split in two so that x - n ln 2 is exact to the last bit.
ATTNLIB_INLINE vec<float> exp(vec<float> x) {
  constexpr float fit[] = {1.0f,
                           1.0f,
                           0x1.fffffaaf2c9c7p-2f,
                           0x1.55540a777d5c5p-3f,
                           0x1.55589a52c5647p-5f,
                           0x1.126d0f425fb12p-7f,
                           0x1.6ab97d596d8cdp-10f};
  x = max(broadcast<float>(-110.0f), x);
  x = min(broadcast<float>(90.0f), x);
  const vec<float> whole = round_to_integer(x * broadcast<float>(0x1.715476p+0f));
  vec<float> rest = fma(whole, broadcast<float>(-0x1.62e400p-1f), x);
  rest = fma(whole, broadcast<float>(-0x1.7f7d1cp-20f), rest);
  return scale_by_power(polynomial(fit, rest), whole);
}
ATTNLIB_INLINE vec<double> exp(vec<double> x) {
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
  x = max(broadcast<double>(-760.0), x);
  x = min(broadcast<double>(711.0), x);
  const vec<double> whole = round_to_integer(x * broadcast<double>(0x1.71547652b82fep+0));
  vec<double> rest = fma(whole, broadcast<double>(-0x1.62e42fee00000p-1), x);
  rest = fma(whole, broadcast<double>(-0x1.a39ef35793c76p-33), rest);
  return scale_by_power(polynomial(fit, rest), whole);
}

// The C library's function on every lane.
template <class Function>
ATTNLIB_INLINE vec<double> each_lane(vec<double> x, Function function) {
  for (int lane = 0; lane < lanes<double>; ++lane) x[lane] = function(x[lane]);
  return x;
}

// tanh, at most 3 ULP: an odd polynomial near 0, where 1 - 2 / (e^2|x| + 1) would cancel.
ATTNLIB_INLINE vec<float> tanh(vec<float> x) {
  constexpr float fit[] = {1.0f,
                           -0x1.555524794b19dp-2f,
                           0x1.1105807f0eae3p-3f,
                           -0x1.b8153ec866064p-5f,
                           0x1.515cdd5c9b959p-6f,
                           -0x1.72eedba75c71dp-8f};
  const vec<float> size = abs<float>(x);
  const vec<float> square = x * x;
  const vec<float> near = fma(polynomial(fit, square) - broadcast<float>(1.0f), x, x);
  const vec<float> two = broadcast<float>(2.0f);
  const vec<float> far = broadcast<float>(1.0f) - two / (exp(size * two) + broadcast<float>(1.0f));
  return size < broadcast<float>(0.625f) ? near : copy_sign<float>(far, x);
}
ATTNLIB_INLINE vec<double> tanh(vec<double> x) {
  return each_lane(x, [](double lane) __attribute__((always_inline)) { return __builtin_tanh(lane); });
}

// 1 / (1 + e^-x), at most 3 ULP.
template <class C>
ATTNLIB_INLINE vec<C> sigmoid(vec<C> x) {
  const vec<C> one = broadcast<C>(C{1});
  return one / (one + exp(-x));
}

// The distribution function of the standard normal, Phi(x) = erfc(-x / sqrt 2) / 2, to a relative error of 2e-6 in the
// lower tail too (where 1 + erf cancels) and 2 ULP for x >= -1. Phi(-t) e^(t^2 / 2) is smooth: a polynomial in
// u = 1 / (1 + 0.375 t), after W. J. Cody's idea of separating the exponential.
ATTNLIB_INLINE vec<float> normal_cdf(vec<float> x) {
  constexpr float fit[] = {0x1.325e2e0836084p-3f,  0x1.32ef248f768aep-3f,  0x1.00d7621326368p-3f, 0x1.b824018cd1585p-4f,
                           -0x1.bb479b6dbce46p-5f, 0x1.b11b30fb44052p-3f,  -0x1.acd88695489f9p-2f,
                           0x1.5ce55091b7ecap-2f,  -0x1.0eaf00c374f42p-3f, 0x1.50ab625d0618bp-6f};
  const vec<float> one = broadcast<float>(1.0f);
  const vec<float> size = min(broadcast<float>(15.0f), abs<float>(x));
  const vec<float> u = one / fma(size, broadcast<float>(0.375f), one);
  const vec<float> tail = u * polynomial(fit, u) * exp(size * size * broadcast<float>(-0.5f));
  return x > zero<float>() ? one - tail : tail;
}

// x * Phi(x): the exact GELU (D. Hendrycks and K. Gimpel, 2016, arXiv:1606.08415).
ATTNLIB_INLINE vec<float> gelu(vec<float> x) { return x * normal_cdf(x); }
ATTNLIB_INLINE vec<double> gelu(vec<double> x) {
  return each_lane(x, [](double lane) __attribute__((always_inline)) {
    return 0.5 * lane * __builtin_erfc(lane * -0x1.6a09e667f3bcdp-1);
  });
}

// The same paper's approximation by tanh.
template <class C>
ATTNLIB_INLINE vec<C> gelu_tanh(vec<C> x) {
  const vec<C> inner = x * fma(x * x, broadcast<C>(C(0.044715)), broadcast<C>(C{1}));
  // 0.5 (1 + tanh y) = sigmoid(2 y), which does not cancel for negative y
  return x * sigmoid<C>(inner * broadcast<C>(C(1.5957691216057308)));
}

template <class C>
ATTNLIB_INLINE vec<C> silu(vec<C> x) {
  return x * sigmoid<C>(x);
}

template <class C>
ATTNLIB_INLINE vec<C> relu(vec<C> x) {
  return max(zero<C>(), x);  // NaN stays NaN
}

template <class C>
ATTNLIB_INLINE vec<C> activate(Activation kind, vec<C> x) {
  switch (kind) {
    case Activation::relu:
      return relu<C>(x);
    case Activation::gelu:
      return gelu(x);
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
