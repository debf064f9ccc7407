// Products of int8 weights: a[m, k] = s[m] (q[m, k] - z[m]), b[k, n] = t[n] w[k, n], so
//   sum_k a b = s[m] t[n] (sum_k q w - z[m] sum_k w)
// with q of 8 bits without sign, w of 8 bits with sign, and the sums exact in 32 bits: the same on every rung.
//
// Rows of a are quantised as they come, each by itself: its range, widened to include 0 so that 0 has a code, is cut
// into 255 steps. A row with NaN or inf has no range: its result is NaN. The weights' scales are made when they are
// packed (ops/quantize.cpp).
//
// Error: |q - a / s - z| <= 1/2 and |w - b / t| <= 1/2, so an element errs by at most
//   s[m] / 2 sum_k |b[k, n]| + t[n] / 2 sum_k |a[m, k]| + s[m] t[n] K / 4,
// for random signs by about the square root of K of these terms' means. K is at most 2^31 / (255 * 127) = 66,311.
#include "kernels/matmul_parts.hpp"
#include "kernels/matmul_tile.hpp"
#include "kernels/row_vectors.hpp"
#include "kernels/simd/integer_dot.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

struct Int8Product {
  using Left = std::uint32_t;
  using Unit = std::uint32_t;
  using Units = QuadRight;
  using Sum = i32v;
  using SumElement = std::int32_t;
#if defined(__AVX512VNNI__)
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

struct RowRange {
  float low, high;
  bool finite;
};

template <class T>
RowRange range_of(const T* row, std::int64_t n) {
  vec<float> low = zero<float>(), high = zero<float>(), dirt = zero<float>();
  for_each_vector<float>(n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
    const vec<float> x = load_lanes(row + i, count);
    low = min(x, low);
    high = max(x, high);
    dirt = fma(x, zero<float>(), dirt);
  });
  return {-reduce_max<float>(-low), reduce_max<float>(high), !any<float>(dirt != zero<float>())};
}

}  // namespace

template <class T>
void stage_int8(const MatmulRows* arguments) noexcept {
  const MatmulRows& task = *arguments;
  using Bytes = typename VectorOf<std::uint8_t, lanes<float>>::type;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const T* source = static_cast<const T*>(task.source) + row * task.source_stride;
    std::uint8_t* target = static_cast<std::uint8_t*>(task.target) + row * task.target_stride;
    const RowRange range = range_of(source, task.depth);
    const float scale = range.high * (1.0f / 255.0f) - range.low * (1.0f / 255.0f);
    // Nothing but zeros, or numbers so small that the reciprocal overflows: zero.
    if (!range.finite || !(scale >= 0x1p-126f)) {
      task.scales[row] = range.finite ? 0.0f : __builtin_nanf("");
      task.offsets[row] = 0;
      __builtin_memset(target, 0, static_cast<std::uint64_t>(task.target_stride));
      continue;
    }
    const float steps = 1.0f / scale;
    const float offset = __builtin_rintf(-range.low * steps);
    task.scales[row] = scale;
    task.offsets[row] = static_cast<std::int32_t>(offset);
    for (std::int64_t i = task.depth; i < task.target_stride; ++i) target[i] = 0;
    for_each_vector<float>(task.depth, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      vec<float> code = round_to_integer(load_lanes(source + i, count) * broadcast<float>(steps));
      code = min(broadcast<float>(255.0f), max(zero<float>(), code + broadcast<float>(offset)));
      const Bytes bytes = __builtin_convertvector(__builtin_convertvector(code, i32v), Bytes);
      __builtin_memcpy(target + i, &bytes, static_cast<unsigned>(count));
    });
  }
}

template <class T>
void multiply_int8(const MatmulBlock* arguments) noexcept {
  const MatmulBlock& block = *arguments;
  multiply_block<T, Int8Product, false>(
      block, [&](const std::int32_t* sums, std::int64_t row, std::int64_t column) __attribute__((always_inline)) {
        const i32v shift = load_integers(block.column_sums + column) * broadcast_integer<float>(block.row_offsets[row]);
        const vec<float> scale = load(block.column_scales + column) * broadcast<float>(block.row_scales[row]);
        return to_float(load_integers(sums) - shift) * scale;
      });
}

template void stage_int8<float>(const MatmulRows*) noexcept;
template void stage_int8<float16>(const MatmulRows*) noexcept;
template void stage_int8<bfloat16>(const MatmulRows*) noexcept;
template void multiply_int8<float>(const MatmulBlock*) noexcept;
template void multiply_int8<float16>(const MatmulBlock*) noexcept;
template void multiply_int8<bfloat16>(const MatmulBlock*) noexcept;

}  // namespace attnlib::ATTNLIB_ISA
