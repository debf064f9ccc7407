// What the integer sums of an int8 product are worth (kernels/matmul_int8.cpp says why).
#pragma once

#include "kernels/matmul_tile.hpp"
#include "kernels/simd/integer_dot.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// What some columns of a panel are multiplied with for each row, as pairs of words: one instruction multiplies and adds
// them. They are kept from row to row, since outliers are mostly in the same two columns of a.
class PanelWords {
 public:
  // The sums of the columns, in units of 1 and of 128: of deeper panels the latter exceed 16 bits.
  static constexpr std::int64_t deepest = 32768;
  i16v column_sums[product_vectors];
  // The weights of the two columns of a that hold a row's outliers.
  i16v outliers[product_vectors];

  // Brings the sums up to date for the columns from `column` on.
  ATTNLIB_INLINE void prepare(PanelWords& words, const MatmulBlock& block, std::int64_t column) {
    if (words.column_ != column) words.take_columns(block, column);
  }
  // And the weights for a row's outliers.
  ATTNLIB_INLINE void prepare(PanelWords& words, const MatmulBlock& block, const RowOutliers& row) {
    if (words.index_[0] != row.index[0] || words.index_[1] != row.index[1]) words.take_outliers(block, row);
  }

 private:
  template <class Visit>
  void for_each_register(const MatmulBlock& block, Visit visit) {
    for (int v = 0; v < product_vectors && column_ + v * lanes<float> < block.columns; ++v) visit(v);
  }

  __attribute__((noinline)) void take_columns(const MatmulBlock& block, std::int64_t column) {
    column_ = column;
    index_[0] = -1;
    for_each_register(block, [&](int v) {
      const i32v sums = load_integers(block.column_sums + column + v * lanes<float>);
      column_sums[v] = word_pairs(sums & 127, sums >> 7);
    });
  }

  __attribute__((noinline)) void take_outliers(const MatmulBlock& block, const RowOutliers& row) {
    for (int i = 0; i < RowOutliers::most; ++i) index_[i] = row.index[i];
    // Columns that are dealt out evenly need not begin with a panel (kernels/matmul_tile.hpp: b in place).
    const std::uint32_t* panel = static_cast<const std::uint32_t*>(block.panels) +
                                 column_ / panel_width<float> * block.panel_stride + column_ % panel_width<float>;
    const auto weights = [&](int i, int v) {
      const int k = row.index[i];
      const u32v units = load_pairs(panel + k / 4 * std::int64_t{panel_width<float>} + v * lanes<float>);
      return bit_cast<i32v>(units << (24 - 8 * (k % 4))) >> 24;
    };
    for_each_register(block, [&](int v) { outliers[v] = word_pairs(weights(0, v), weights(1, v)); });
  }

  std::int64_t column_ = -1;
  std::int32_t index_[RowOutliers::most] = {-1, -1};
};
static_assert(RowOutliers::most == 2);
static_assert(127 * PanelWords::deepest / 128 <= 32767);

// For finish_rows, see PlainValues.
class Int8Values {
 public:
  Int8Values(const MatmulBlock& block, PanelWords& words)
      : block_(block), words_(words), deep_(block.depth * units_of_depth > PanelWords::deepest) {}

  inline __attribute__((always_inline)) auto operator()(std::int64_t column) const {
    PanelWords::prepare(words_, block_, column);
    struct Columns {
      i16v sums[product_vectors];
      vec<float> scales[product_vectors];
    } columns{};
#pragma GCC unroll 4
    for (int v = 0; v < product_vectors; ++v) {
      if (column + v * lanes<float> >= block_.columns) break;
      columns.sums[v] = words_.column_sums[v];
      columns.scales[v] = load(block_.column_scales + column + v * lanes<float>);
    }
    const MatmulBlock& block = block_;
    PanelWords& words = words_;
    const RowOutliers* const row_outliers = block.row_outliers;
    const std::int32_t *const row_offsets = block.row_offsets, *const column_sums = block.column_sums + column;
    const float* const row_scales = block.row_scales;
    const bool deep = deep_;
    return [=, &block, &words](std::int64_t row) __attribute__((always_inline)) {
      const RowOutliers& outliers = row_outliers[row];
      const std::int32_t offset = row_offsets[row];
      const bool has_outliers = outliers.excess[0] != 0;
      if (has_outliers) PanelWords::prepare(words, block, outliers);
      const i16v offset_words = word_pair(-offset, -128 * offset);
      const i16v excess = word_pair(outliers.excess[0], outliers.excess[1]);
      const vec<float> row_scale = broadcast<float>(row_scales[row]);
      return [=, &words, &columns](const std::int32_t* sums, int n) __attribute__((always_inline)) {
        const int v = n / lanes<float>;
        i32v sum = load_integers(sums);
        if (deep)
          sum -= load_integers(column_sums + n) * broadcast_integer<float>(offset);
        else
          sum = dot_word_pairs(sum, columns.sums[v], offset_words);
        if (has_outliers) sum = dot_word_pairs(sum, words.outliers[v], excess);
        return to_float(sum) * (columns.scales[v] * row_scale);
      };
    };
  }

 private:
  static constexpr std::int64_t units_of_depth = 4;  // bytes of a unit

  const MatmulBlock& block_;
  PanelWords& words_;
  bool deep_;
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
