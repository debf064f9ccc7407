#include "kernels/normalization.hpp"

#include "kernels/row_vectors.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {

ATTNLIB_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
ATTNLIB_INLINE double square_root(double x) { return __builtin_sqrt(x); }

// The row in the compute type, residual added: x itself if that is what it is.
template <class T>
static const compute_type<T>* stage_row(const T* x, const T* residual, compute_type<T>* scratch,
                                        std::int64_t n) noexcept {
  using C = compute_type<T>;
  if constexpr (sizeof(T) == sizeof(C))
    if (residual == nullptr) return x;
  if (residual == nullptr)
    for_each_vector<C>(n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_lanes(scratch + i, load_lanes(x + i, count), count);
    });
  else
    for_each_vector<C>(n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_lanes(scratch + i, load_lanes(x + i, count) + load_lanes(residual + i, count), count);
    });
  return scratch;
}

template <class C>
static C row_sum(const C* row, std::int64_t n) noexcept {
  vec<C> chain[row_chains] = {};
  for_each_vector<C>(n, [&](std::int64_t i, int count, int k)
                            __attribute__((always_inline)) { chain[k] += load_lanes(row + i, count); });
  return sum_chains<C>(chain);
}

template <class C>
static C sum_of_squares(const C* row, C centre, std::int64_t n) noexcept {
  vec<C> chain[row_chains] = {};
  for_each_vector<C>(n, [&](std::int64_t i, int count, int k) __attribute__((always_inline)) {
    const vec<C> centred = pad_lanes<C>(load_lanes(row + i, count) - broadcast<C>(centre), count, C{0});
    chain[k] = fma(centred, centred, chain[k]);
  });
  return sum_chains<C>(chain);
}

// (row - centre) * scale * weight + bias
template <class T>
static void write_row(const compute_type<T>* row, compute_type<T> centre, compute_type<T> scale, const T* weight,
                      const T* bias, T* out, std::int64_t n) noexcept {
  using C = compute_type<T>;
  const auto normed = [&](std::int64_t i, int count) __attribute__((always_inline)) {
    return (load_lanes(row + i, count) - broadcast<C>(centre)) * broadcast<C>(scale);
  };
  if (weight != nullptr && bias != nullptr)
    for_each_vector<C>(n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      const vec<C> scaled = fma(normed(i, count), load_lanes(weight + i, count), load_lanes(bias + i, count));
      store_lanes(out + i, scaled, count);
    });
  else if (weight != nullptr)
    for_each_vector<C>(n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_lanes(out + i, normed(i, count) * load_lanes(weight + i, count), count);
    });
  else if (bias != nullptr)
    for_each_vector<C>(n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_lanes(out + i, normed(i, count) + load_lanes(bias + i, count), count);
    });
  else
    for_each_vector<C>(n, [&](std::int64_t i, int count, int)
                              __attribute__((always_inline)) { store_lanes(out + i, normed(i, count), count); });
}

template <class T, bool centred>
static void normalize(const NormRows& rows) noexcept {
  using C = compute_type<T>;
  const T* weight = static_cast<const T*>(rows.weight);
  const T* bias = static_cast<const T*>(rows.bias);
  const C n = static_cast<C>(rows.n);
  for (std::int64_t r = 0; r < rows.rows; ++r) {
    const T* residual =
        rows.residual == nullptr ? nullptr : static_cast<const T*>(rows.residual) + r * rows.residual_stride;
    const C* row =
        stage_row(static_cast<const T*>(rows.x) + r * rows.x_stride, residual, static_cast<C*>(rows.scratch), rows.n);
    const C centre = centred ? row_sum(row, rows.n) / n : C{0};
    const C variance = sum_of_squares(row, centre, rows.n) / n;
    const C scale = C{1} / square_root(variance + static_cast<C>(rows.eps));
    write_row(row, centre, scale, weight, bias, static_cast<T*>(rows.out) + r * rows.out_stride, rows.n);
  }
}

extern const NormalizationKernels normalization_kernels;
extern constinit const NormalizationKernels normalization_kernels = {
    {normalize<float, true>, normalize<double, true>, normalize<float16, true>, normalize<bfloat16, true>},
    {normalize<float, false>, normalize<double, false>, normalize<float16, false>, normalize<bfloat16, false>},
};

}  // namespace attnlib::ATTNLIB_ISA
