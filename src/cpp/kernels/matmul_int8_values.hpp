// What the integer sums of an int8 product are worth (kernels/matmul_int8.cpp says why).
#pragma once

#include "kernels/matmul_tile.hpp"
#include "kernels/simd/integer_dot.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// What of a panel's columns is wanted for each row, as pairs of words that one instruction multiplies and adds.
class PanelWords {
 public:
  // The sums of the columns, in units of 128 and of 1; of deeper panels they exceed 16 bits.
  static constexpr std::int64_t deepest = 32768;
  i16v column_sums[product_vectors];
  // The weights of the two columns of a that hold a row's outliers.
  i16v outliers[product_vectors];

  // For a column and, if the row has any, outliers.
  ATTNLIB_INLINE void prepare(PanelWords& words, const MatmulBlock& block, std::int64_t column,
                              const RowOutliers& row) {
    if (words.column_ != column) {
      words.column_ = column;
      words.index_[0] = words.index_[1] = -1;
      for (int v = 0; v < product_vectors && column + v * lanes<float> < block.columns; ++v) {
        const i32v sums = load_integers(block.column_sums + column + v * lanes<float>);
        words.column_sums[v] = word_pairs(sums & 127, sums >> 7);
      }
    }
    if (row.excess[0] == 0 || (words.index_[0] == row.index[0] && words.index_[1] == row.index[1])) return;
    const std::uint32_t* panel =
        static_cast<const std::uint32_t*>(block.panels) + column / panel_width<float> * block.panel_stride;
    for (int v = 0; v < product_vectors; ++v) {
      i32v weights[RowOutliers::most];
      for (int i = 0; i < RowOutliers::most; ++i) {
        const int k = words.index_[i] = row.index[i];
        const u32v units = load_pairs(panel + k / 4 * std::int64_t{panel_width<float>} + v * lanes<float>);
        weights[i] = bit_cast<i32v>(units << (24 - 8 * (k % 4))) >> 24;
      }
      words.outliers[v] = word_pairs(weights[0], weights[1]);
    }
  }

 private:
  std::int64_t column_ = -1;
  std::int32_t index_[RowOutliers::most] = {-1, -1};
};
static_assert(RowOutliers::most == 2);

// For finish_rows: from a row and the first of some columns to a function from sums, n columns further, to values.
class Int8Values {
 public:
  explicit Int8Values(const MatmulBlock& block, PanelWords& words) : block_(block), words_(words) {}

  inline __attribute__((always_inline)) auto operator()(std::int64_t row, std::int64_t column) const {
    const RowOutliers& outliers = block_.row_outliers[row];
    PanelWords::prepare(words_, block_, column, outliers);
    const std::int32_t offset = block_.row_offsets[row];
    const bool has_outliers = outliers.excess[0] != 0, deep = block_.depth * 4 > PanelWords::deepest;
    const i32v offsets = broadcast_integer<float>(offset);
    const i16v offset_words = word_pairs(-offsets, -offsets << 7);
    const i16v excess =
        word_pairs(broadcast_integer<float>(outliers.excess[0]), broadcast_integer<float>(outliers.excess[1]));
    const vec<float> row_scale = broadcast<float>(block_.row_scales[row]);
    const std::int32_t* column_sums = block_.column_sums + column;
    const float* column_scales = block_.column_scales + column;
    const PanelWords& words = words_;
    return [=, &words](const std::int32_t* sums, int n) __attribute__((always_inline)) {
      i32v sum = load_integers(sums);
      if (deep)
        sum -= load_integers(column_sums + n) * offsets;
      else
        sum = dot_word_pairs(sum, words.column_sums[n / lanes<float>], offset_words);
      if (has_outliers) sum = dot_word_pairs(sum, words.outliers[n / lanes<float>], excess);
      return to_float(sum) * (load(column_scales + n) * row_scale);
    };
  }

 private:
  const MatmulBlock& block_;
  PanelWords& words_;
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
