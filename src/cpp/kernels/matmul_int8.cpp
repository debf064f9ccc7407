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
// by a quarter or more, the range is that of the others (at least a 128th of the largest), and what their codes lack is
// multiplied on its own, in exact integers too. A row with NaN or inf has no range: its result is NaN.
//
// Where the instruction wants signed bytes on both sides, q - 128 and z - 128 stand for q and z: the same difference.
//
// Error: |q - a' / s - z| <= 1/2 and |w - b' / t| <= 1/2, so an element errs by at most
//   s[m] / 2 sum_k |b'[k, n]| + t[n] / 2 sum_k |a'[m, k]| + s[m] t[n] K / 4,
// for random signs by about the square root of K of these terms' means. K is at most 65,536, so that sums fit.
#include "kernels/matmul_int8_values.hpp"
#include "kernels/matmul_parts.hpp"
#include "kernels/simd/codes.hpp"

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

static_assert(staged_values % codes_at_once == 0);

// Calls visit(i, place) for the registers of a row, padded, four places of them in turn. Places that are `parts` apart
// hold the same of the 16 lanes.
template <class Visit>
ATTNLIB_INLINE void for_each_register(std::int64_t n, Visit visit) {
  for (std::int64_t i = 0; i < n; i += codes_at_once)
#pragma GCC unroll 4
    for (int place = 0; place < code_registers; ++place) visit(i + place * lanes<float>, place);
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

ATTNLIB_INLINE RowRange across_lanes(vec<float> low, vec<float> high, Largest all, bool finite) {
#pragma GCC unroll 4
  for (int width = lanes<float> / 2; width > 0; width /= 2) {
    all = joined(all, {exchange_lanes<float>(all.first, width), exchange_lanes<float>(all.second, width),
                       exchange_lanes<float>(all.third, width)});
    low = min(low, exchange_lanes<float>(low, width));
    high = max(high, exchange_lanes<float>(high, width));
  }
  return {low[0], high[0], all.first[0], all.third[0], finite};
}

// `values` become those of the row, balanced, with zeros to the end of the last four registers. The third largest size
// is that of the 16 lanes' largest: at most the true one.
template <class T>
RowRange balance_row(const T* row, const float* balance, std::int64_t n, float* values) {
  vec<float> low[code_registers] = {}, high[code_registers] = {}, dirt[code_registers] = {};
  for_each_register(n, [&](std::int64_t i, int place) __attribute__((always_inline)) {
    vec<float> x = zero<float>();
    if (i + lanes<float> <= n)
      x = load(row + i) * load(balance + i);
    else if (i < n)
      x = load_partial(row + i, static_cast<int>(n - i)) * load(balance + i);
    store(values + i, x);
    low[place] = min(x, low[place]);
    high[place] = max(x, high[place]);
    dirt[place] = fma(x, zero<float>(), dirt[place]);
  });
#pragma GCC unroll 4
  for (int place = parts; place < code_registers; ++place) {  // the same lanes of the 16
    low[place % parts] = min(low[place % parts], low[place]);
    high[place % parts] = max(high[place % parts], high[place]);
  }
  vec<float> lowest = low[0], highest = high[0];
  Largest sizes{max(highest, -lowest), zero<float>(), zero<float>()};
#pragma GCC unroll 4
  for (int part = 1; part < parts; ++part) {
    sizes = joined(sizes, {max(high[part], -low[part]), zero<float>(), zero<float>()});
    lowest = min(lowest, low[part]);
    highest = max(highest, high[part]);
  }
  const vec<float> all_dirt = (dirt[0] + dirt[1]) + (dirt[2] + dirt[3]);
  return across_lanes(lowest, highest, sizes, !any<float>(all_dirt != zero<float>()));
}

// The true one.
float third_largest(const float* values, std::int64_t n) {
  Largest sizes[code_registers] = {};
  for_each_register(n, [&](std::int64_t i, int place) __attribute__((always_inline)) {
    sizes[place] = joined(sizes[place], {abs<float>(load(values + i)), zero<float>(), zero<float>()});
  });
  const Largest all = joined(joined(sizes[0], sizes[1]), joined(sizes[2], sizes[3]));
  return across_lanes(zero<float>(), zero<float>(), all, true).third;
}

// The range without outliers, if there are any: that of the values up to the third largest, but at least a 128th of the
// largest: an outlier's code is at most 128 * 255 in size, and what it exceeds 255 by fits 16 bits with sign.
constexpr float largest_of_range = 128.0f;
static_assert(largest_of_range * 255.0f <= 32767.0f);
struct Clipped {
  float limit, low, high;
  bool has_outliers;
};
ATTNLIB_INLINE Clipped clipped_range(const RowRange& range, float third) {
  const float least = range.largest * (1.0f / largest_of_range);
  const float limit = third > least ? third : least;
  const float low = range.low > -limit ? range.low : -limit, high = range.high < limit ? range.high : limit;
  if ((high - low) * 1.25f <= range.high - range.low) return {limit, low, high, true};
  return {limit, range.low, range.high, false};
}

// What codes are made with: those of x are x * steps, rounded, + offset.
struct Coding {
  float steps;
  std::int32_t offset;
};
ATTNLIB_INLINE i32v code_of(vec<float> x, const Coding& coding) {
  return nearest_integers(x * broadcast<float>(coding.steps)) + broadcast_integer<float>(coding.offset);
}

void write_codes(const float* values, std::int64_t n, const Coding& coding, std::uint8_t* target) {
  for (std::int64_t i = 0; i < n; i += codes_at_once) {
    i32v whole[code_registers];
#pragma GCC unroll 4
    for (int place = 0; place < code_registers; ++place)
      whole[place] = code_of(load(values + i + place * lanes<float>), coding);
    const CodeRegister codes = codes_of(whole) ^ static_cast<std::uint8_t>(code_shift);
    if (i + codes_at_once <= n)
      __builtin_memcpy(target + i, &codes, sizeof codes);
    else
      __builtin_memcpy(target + i, &codes, static_cast<std::uint64_t>(n - i) % sizeof codes);
  }
}

// Those of the values beyond the limit whose codes do not reach them, and what these lack.
RowOutliers find_outliers(const float* values, std::int64_t n, const Coding& coding, float limit) {
  RowOutliers outliers = {};
  int found = 0;
  for (std::int64_t i = 0; i < n; i += lanes<float>) {
    const vec<float> x = load(values + i);
    const mask_vec<float> beyond = abs<float>(x) > broadcast<float>(limit);
    if (!any<float>(beyond)) continue;
    const i32v code = code_of(x, coding);
    for (int lane = 0; lane < lanes<float>; ++lane) {
      const std::int32_t nearest = code[lane] < 0 ? 0 : code[lane] > 255 ? 255 : code[lane];
      if (beyond[lane] == 0 || found == RowOutliers::most || code[lane] == nearest) continue;
      outliers.index[found] = static_cast<std::int32_t>(i + lane);
      outliers.excess[found++] = code[lane] - nearest;
    }
  }
  return outliers;
}

}  // namespace

template <class T>
void stage_int8(const MatmulRows* arguments) noexcept {
  const MatmulRows& task = *arguments;
  float* const values = task.row_values;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const T* source = static_cast<const T*>(task.source) + row * task.source_stride;
    std::uint8_t* target = static_cast<std::uint8_t*>(task.target) + row * task.target_stride;
    task.outliers[row] = {};
    const RowRange range = balance_row(source, task.balance, task.depth, values);
    // A third largest size that is too small makes outliers of more rows, never of fewer: most need no second look.
    Clipped clipped = clipped_range(range, range.third);
    if (clipped.has_outliers) clipped = clipped_range(range, third_largest(values, task.depth));
    const float scale = clipped.high * (1.0f / 255.0f) - clipped.low * (1.0f / 255.0f);
    // Nothing but zeros, or numbers so small that the reciprocal overflows: zero.
    if (!range.finite || !(scale >= 0x1p-126f)) {
      task.scales[row] = range.finite ? 0.0f : __builtin_nanf("");
      task.offsets[row] = 0;
      __builtin_memset(target, 0, static_cast<std::uint64_t>(task.target_stride));
      continue;
    }
    const float steps = 1.0f / scale;
    const Coding coding{steps, static_cast<std::int32_t>(__builtin_rintf(-clipped.low * steps))};
    task.scales[row] = scale;
    task.offsets[row] = coding.offset - code_shift;
    for (std::int64_t i = task.depth; i < task.target_stride; ++i) target[i] = 0;
    write_codes(values, task.depth, coding, target);
    if (clipped.has_outliers) task.outliers[row] = find_outliers(values, task.depth, coding, clipped.limit);
  }
}

template <class T>
void multiply_int8(const MatmulBlock* arguments) noexcept {
  PanelWords words;
  multiply_block<T, Int8Product, false>(*arguments, Int8Values(*arguments, words));
}

template void stage_int8<float>(const MatmulRows*) noexcept;
template void stage_int8<float16>(const MatmulRows*) noexcept;
template void stage_int8<bfloat16>(const MatmulRows*) noexcept;
template void multiply_int8<float>(const MatmulBlock*) noexcept;
template void multiply_int8<float16>(const MatmulBlock*) noexcept;
template void multiply_int8<bfloat16>(const MatmulBlock*) noexcept;

}  // namespace attnlib::ATTNLIB_ISA
