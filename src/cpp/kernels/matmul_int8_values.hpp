// What the integer sums of an int8 product are worth (kernels/matmul_int8.cpp says why).
#pragma once

#include "kernels/matmul_tile.hpp"
#include "kernels/simd/integer_dot.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// What the codes of a row that exceed 8 bits add to the sums of a register of columns: excess times weight k of each.
ATTNLIB_INLINE i32v add_outliers(i32v sum, const RowOutliers& outliers, const std::uint32_t* panel) {
  for (int i = 0; i < RowOutliers::most; ++i) {
    if (outliers.excess[i] == 0) continue;
    const int k = outliers.index[i];
    const u32v units = load_pairs(panel + k / 4 * std::int64_t{panel_width<float>});
    const i32v weights = bit_cast<i32v>(units << (24 - 8 * (k % 4))) >> 24;
    sum += weights * broadcast_integer<float>(outliers.excess[i]);
  }
  return sum;
}

// For finish_rows: from a row and the first of some columns to a function from sums, n columns further, to values.
struct Int8Values {
  const MatmulBlock& block;

  inline __attribute__((always_inline)) auto operator()(std::int64_t row, std::int64_t column) const {
    const i32v offset = broadcast_integer<float>(block.row_offsets[row]);
    const vec<float> row_scale = broadcast<float>(block.row_scales[row]);
    const RowOutliers& outliers = block.row_outliers[row];
    const bool has_outliers = outliers.excess[0] != 0;
    const std::uint32_t* panel =
        static_cast<const std::uint32_t*>(block.panels) + column / panel_width<float> * block.panel_stride;
    const std::int32_t* column_sums = block.column_sums + column;
    const float* column_scales = block.column_scales + column;
    return [=, &outliers](const std::int32_t* sums, int n) __attribute__((always_inline)) {
      i32v sum = load_integers(sums) - load_integers(column_sums + n) * offset;
      if (has_outliers) sum = add_outliers(sum, outliers, panel + n);
      return to_float(sum) * (load(column_scales + n) * row_scale);
    };
  }
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
