#include "kernels/softmax.hpp"

#include "kernels/row_vectors.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {

template <class C>
inline constexpr C negative_infinity = static_cast<C>(-__builtin_inf());

// The row's maximum, -inf if nothing takes part. A NaN may be lost here: its exponential brings it back. A row of a
// narrower type, or one with a mask, goes to `staged` on the way: widened, and -inf where masked.
template <class T, bool masked>
static compute_type<T> row_maximum(const T* x, const bool* mask, compute_type<T>* staged, std::int64_t n) noexcept {
  using C = compute_type<T>;
  vec<C> chain[row_chains];
  for (vec<C>& maximum : chain) maximum = broadcast<C>(negative_infinity<C>);
  for_each_vector<C>(n, [&](std::int64_t i, int count, int k) __attribute__((always_inline)) {
    vec<C> value = load_lanes(x + i, count);
    if constexpr (masked) value = load_flags<C>(mask + i, count) ? value : broadcast<C>(negative_infinity<C>);
    if constexpr (masked || sizeof(T) != sizeof(C)) store_lanes(staged + i, value, count);
    chain[k] = max(chain[k], pad_lanes<C>(value, count, negative_infinity<C>));
  });
  return reduce_max<C>(max(max(chain[0], chain[1]), max(chain[2], chain[3])));
}

// The sum of e^(x - shift); with `keep`, the exponentials go to `kept`, which may be x.
template <class C, bool keep>
static C sum_exponentials(const C* x, C shift, C* kept, std::int64_t n) noexcept {
  vec<C> chain[row_chains] = {};
  for_each_vector<C>(n, [&](std::int64_t i, int count, int k) __attribute__((always_inline)) {
    const vec<C> value = exp_nonpositive<C>(load_lanes(x + i, count) - broadcast<C>(shift));
    if constexpr (keep) store_lanes(kept + i, value, count);
    chain[k] += pad_lanes<C>(value, count, C{0});
  });
  return sum_chains<C>(chain);
}

template <class T, bool masked>
static void scale_row(const compute_type<T>* x, const bool* mask, compute_type<T> scale, T* out,
                      std::int64_t n) noexcept {
  using C = compute_type<T>;
  const bool nan = scale != scale;
  for_each_vector<C>(n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
    vec<C> value = load_lanes(x + i, count) * broadcast<C>(scale);
    if constexpr (masked)  // 0 * NaN is not the 0 that a masked position is promised
      if (nan) value = load_flags<C>(mask + i, count) ? value : zero<C>();
    store_lanes(out + i, value, count);
  });
}

template <class T, bool masked>
static void softmax_row(const T* x, const bool* mask, T* out, compute_type<T>* scratch, std::int64_t n) noexcept {
  using C = compute_type<T>;
  C* kept;
  if constexpr (sizeof(T) == sizeof(C))
    kept = out;
  else
    kept = scratch;
  const C maximum = row_maximum<T, masked>(x, mask, kept, n);
  // Nothing but -inf: any finite shift gives exponentials, and a sum, of 0 (and finds a NaN that the maximum lost).
  const C shift = maximum == negative_infinity<C> ? C{0} : maximum;
  const C* source = kept;
  if constexpr (!masked && sizeof(T) == sizeof(C)) source = x;
  const C sum = sum_exponentials<C, true>(source, shift, kept, n);
  scale_row<T, masked>(kept, mask, sum == C{0} ? C{0} : C{1} / sum, out, n);
}

template <class T>
static void softmax(const SoftmaxRows& rows) noexcept {
  const T* x = static_cast<const T*>(rows.x);
  T* out = static_cast<T*>(rows.out);
  auto* scratch = static_cast<compute_type<T>*>(rows.scratch);
  for (std::int64_t row = 0; row < rows.rows; ++row, x += rows.x_stride, out += rows.out_stride) {
    const bool* mask = rows.mask == nullptr ? nullptr : rows.mask + row * rows.mask_stride;
    if (mask == nullptr || (rows.mask_step == 0 && *mask))
      softmax_row<T, false>(x, nullptr, out, scratch, rows.n);
    else if (rows.mask_step == 0)
      __builtin_memset(out, 0, static_cast<unsigned long>(rows.n) * sizeof(T));
    else
      softmax_row<T, true>(x, mask, out, scratch, rows.n);
  }
}

ATTNLIB_INLINE float logarithm(float x) { return static_cast<float>(__builtin_log(static_cast<double>(x))); }
ATTNLIB_INLINE double logarithm(double x) { return __builtin_log(x); }

template <class T>
static void log_softmax(const SoftmaxRows& rows) noexcept {
  using C = compute_type<T>;
  const T* x = static_cast<const T*>(rows.x);
  T* out = static_cast<T*>(rows.out);
  C* scratch = static_cast<C*>(rows.scratch);
  for (std::int64_t row = 0; row < rows.rows; ++row, x += rows.x_stride, out += rows.out_stride) {
    const C maximum = row_maximum<T, false>(x, nullptr, scratch, rows.n);
    const C shift = maximum == negative_infinity<C> ? C{0} : maximum;
    const C* source;
    if constexpr (sizeof(T) == sizeof(C))
      source = x;
    else
      source = scratch;
    const C sum = sum_exponentials<C, false>(source, shift, nullptr, rows.n);
    if (sum == C{0}) {  // nothing but -inf
      __builtin_memset(out, 0, static_cast<unsigned long>(rows.n) * sizeof(T));
      continue;
    }
    const C log_sum = logarithm(sum);
    for_each_vector<C>(rows.n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      const vec<C> centred = load_lanes(source + i, count) - broadcast<C>(shift);
      store_lanes(out + i, centred - broadcast<C>(log_sum), count);
    });
  }
}

extern const SoftmaxKernels softmax_kernels;
extern constinit const SoftmaxKernels softmax_kernels = {
    {softmax<float>, softmax<double>, softmax<float16>, softmax<bfloat16>},
    {log_softmax<float>, log_softmax<double>, log_softmax<float16>, log_softmax<bfloat16>},
};

}  // namespace attnlib::ATTNLIB_ISA
