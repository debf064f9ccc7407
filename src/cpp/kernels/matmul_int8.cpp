// Products of int8 weights: a'[m, k] = s[m] (q[m, k] - z[m]), b'[k, n] = t[n] w[k, n], so
//   sum_k a' b' = s[m] t[n] (sum_k q w - z[m] sum_k w)
// with q of 8 bits without sign, w of 8 bits with sign, and the sums exact in 32 bits: the same on every rung.
//
// Balance. a' = a c and b' = b / c, with c[k] made when the weight is packed (ops/quantize.cpp): it evens out how large
// the columns of the weight are, and leaves the product as it is.
//
// Rows of a are quantised as they come, each by itself: its range, widened to include 0 so that 0 has a code, is cut
// into 255 steps. Hidden states of Transformers have a few outliers that would make these steps coarse for all others
// (T. Dettmers et al., "LLM.int8()", 2022, arXiv:2208.07339): where the two largest values of a row stretch its range
// by a quarter or more, the range is that of the others, and what their codes lack is multiplied on its own, in exact
// integers too. A row with NaN or inf has no range: its result is NaN.
//
// Where the instruction wants signed bytes on both sides, q - 128 and z - 128 stand for q and z: the same difference.
//
// Error: |q - a' / s - z| <= 1/2 and |w - b' / t| <= 1/2, so an element errs by at most
//   s[m] / 2 sum_k |b'[k, n]| + t[n] / 2 sum_k |a'[m, k]| + s[m] t[n] K / 4,
// for random signs by about the square root of K of these terms' means. K is at most 65,536, so that sums fit.
#include "kernels/matmul_int8_values.hpp"
#include "kernels/matmul_parts.hpp"
#include "kernels/row_vectors.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

struct Int8Product {
  using Left = std::uint32_t;
  using Unit = std::uint32_t;
  using Units = QuadRight;
  using Sum = i32v;
  using SumElement = std::int32_t;
#if defined(ATTNLIB_DOT_INT8)
  static constexpr int rows = product_rows;
#else
  static constexpr int rows = product_rows / 2;  // both sides take two registers, widened
#endif
  ATTNLIB_INLINE QuadLeft load_left(const std::uint32_t* left) { return unsigned_quads(*left + u32v{}); }
  ATTNLIB_INLINE QuadRight load_units(const std::uint32_t* units) { return signed_quads(load_pairs(units)); }
  ATTNLIB_INLINE i32v add(i32v sum, const QuadLeft& left, const QuadRight& units) {
    return dot_quads(sum, left, units);
  }
};

// The row is looked at in 16 lanes whatever the register: which value counts as an outlier must not depend on the rung.
constexpr int parts = 16 / lanes<float>;

template <class Visit>
ATTNLIB_INLINE void for_each_part(std::int64_t n, Visit visit) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16)
#pragma GCC unroll 4
    for (int part = 0; part < parts; ++part) visit(i + part * lanes<float>, lanes<float>, part);
  for (int part = 0; part < parts && i < n; ++part, i += lanes<float>)
    visit(i, n - i < lanes<float> ? static_cast<int>(n - i) : lanes<float>, part);
}

// The three largest numbers seen in each lane, in order.
struct Largest {
  vec<float> first, second, third;
};
ATTNLIB_INLINE Largest joined(const Largest& a, const Largest& b) {
  const vec<float> lesser = min(a.first, b.first), next = max(a.second, b.second);
  return {max(a.first, b.first), max(lesser, next), max(min(lesser, next), max(a.third, b.third))};
}

struct RowRange {
  float low, high;       // with 0 inside
  float largest, third;  // of all sizes
  bool finite;
};

ATTNLIB_INLINE RowRange across_lanes(const vec<float> (&lows)[parts], const vec<float> (&highs)[parts],
                                     const Largest (&size)[parts], bool finite) {
  Largest all = size[0];
  vec<float> low = lows[0], high = highs[0];
  for (int part = 1; part < parts; ++part) {
    all = joined(all, size[part]);
    low = min(low, lows[part]);
    high = max(high, highs[part]);
  }
#pragma GCC unroll 4
  for (int width = lanes<float> / 2; width > 0; width /= 2) {
    all = joined(all, {exchange_lanes<float>(all.first, width), exchange_lanes<float>(all.second, width),
                       exchange_lanes<float>(all.third, width)});
    low = min(low, exchange_lanes<float>(low, width));
    high = max(high, exchange_lanes<float>(high, width));
  }
  return {low[0], high[0], all.first[0], all.third[0], finite};
}

// The third largest size is that of the 16 lanes' largest: at most the true one.
template <class T>
RowRange range_of(const T* row, const float* balance, std::int64_t n) {
  vec<float> low[parts] = {}, high[parts] = {}, dirt = zero<float>();
  for_each_part(n, [&](std::int64_t i, int count, int part) __attribute__((always_inline)) {
    const vec<float> x = load_lanes(row + i, count) * load(balance + i);
    low[part] = min(x, low[part]);
    high[part] = max(x, high[part]);
    dirt = fma(x, zero<float>(), dirt);
  });
  Largest size[parts];
  for (int part = 0; part < parts; ++part) size[part] = {max(high[part], -low[part]), zero<float>(), zero<float>()};
  return across_lanes(low, high, size, !any<float>(dirt != zero<float>()));
}

// The true one.
template <class T>
float third_largest(const T* row, const float* balance, std::int64_t n) {
  Largest size[parts] = {};
  for_each_part(n, [&](std::int64_t i, int count, int part) __attribute__((always_inline)) {
    const vec<float> x = load_lanes(row + i, count) * load(balance + i);
    size[part] = joined(size[part], {abs<float>(x), zero<float>(), zero<float>()});
  });
  const vec<float> none[parts] = {};
  return across_lanes(none, none, size, true).third;
}

// The range without outliers, if there are any: that of the values up to the third largest. The codes of outliers, and
// with them the sums, stay in bounds.
struct Clipped {
  float limit, low, high;
  bool has_outliers;
};
ATTNLIB_INLINE Clipped clipped_range(const RowRange& range, float third) {
  const float least = range.largest * (1.0f / 200.0f);
  const float limit = third > least ? third : least;
  const float low = range.low > -limit ? range.low : -limit, high = range.high < limit ? range.high : limit;
  if ((high - low) * 1.25f <= range.high - range.low) return {limit, low, high, true};
  return {limit, range.low, range.high, false};
}

}  // namespace

template <class T>
void stage_int8(const MatmulRows* arguments) noexcept {
  const MatmulRows& task = *arguments;
  using Bytes = typename VectorOf<std::uint8_t, lanes<float>>::type;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const T* source = static_cast<const T*>(task.source) + row * task.source_stride;
    std::uint8_t* target = static_cast<std::uint8_t*>(task.target) + row * task.target_stride;
    RowOutliers& outliers = task.outliers[row];
    outliers = {};
    const RowRange range = range_of(source, task.balance, task.depth);
    // A third largest size that is too small makes outliers of more rows, never of fewer: most need no second look.
    Clipped clipped = clipped_range(range, range.third);
    if (clipped.has_outliers) clipped = clipped_range(range, third_largest(source, task.balance, task.depth));
    const float limit = clipped.limit, low = clipped.low, high = clipped.high;
    const bool has_outliers = clipped.has_outliers;
    const float scale = high * (1.0f / 255.0f) - low * (1.0f / 255.0f);
    // Nothing but zeros, or numbers so small that the reciprocal overflows: zero.
    if (!range.finite || !(scale >= 0x1p-126f)) {
      task.scales[row] = range.finite ? 0.0f : __builtin_nanf("");
      task.offsets[row] = 0;
      __builtin_memset(target, 0, static_cast<std::uint64_t>(task.target_stride));
      continue;
    }
    const float steps = 1.0f / scale;
    const float offset = __builtin_rintf(-low * steps);
    task.scales[row] = scale;
    task.offsets[row] = static_cast<std::int32_t>(offset) - code_shift;
    for (std::int64_t i = task.depth; i < task.target_stride; ++i) target[i] = 0;
    const auto code_of = [&](vec<float> x) __attribute__((always_inline)) {
      return round_to_integer(x * broadcast<float>(steps)) + broadcast<float>(offset);
    };
    int found = 0;
    for_each_vector<float>(task.depth, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      const vec<float> x = load_lanes(source + i, count) * load(task.balance + i);
      const vec<float> code = min(broadcast<float>(255.0f), max(zero<float>(), code_of(x)));
      const Bytes bytes = __builtin_convertvector(__builtin_convertvector(code, i32v) - code_shift, Bytes);
      __builtin_memcpy(target + i, &bytes, static_cast<unsigned>(count));
      if (!has_outliers) return;
      const mask_vec<float> beyond = abs<float>(x) > broadcast<float>(limit);
      if (!any<float>(beyond)) return;
      const vec<float> excess = code_of(x) - code;
      for (int lane = 0; lane < count; ++lane) {
        if (beyond[lane] == 0 || found == RowOutliers::most) continue;
        if (excess[lane] == 0.0f) continue;
        outliers.index[found] = static_cast<std::int32_t>(i + lane);
        outliers.excess[found++] = static_cast<std::int32_t>(excess[lane]);
      }
    });
  }
}

template <class T>
void multiply_int8(const MatmulBlock* arguments) noexcept {
  multiply_block<T, Int8Product, false>(*arguments, Int8Values{*arguments});
}

template void stage_int8<float>(const MatmulRows*) noexcept;
template void stage_int8<float16>(const MatmulRows*) noexcept;
template void stage_int8<bfloat16>(const MatmulRows*) noexcept;
template void multiply_int8<float>(const MatmulBlock*) noexcept;
template void multiply_int8<float16>(const MatmulBlock*) noexcept;
template void multiply_int8<bfloat16>(const MatmulBlock*) noexcept;

}  // namespace attnlib::ATTNLIB_ISA
