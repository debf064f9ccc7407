// How attention's tiles multiply bfloat16 where there is a matrix unit: pairs, as PairArithmetic has them, 16 of them
// to a row of a tile.
//   S = K Q:  keys are the left side, rows of features as they lie, queries [d / 2][row][2] the right one
//   O = V P:  values are the left side, transposed once for all tiles of the task, weights [key / 2][row][2] the right
//   one
// so scores and sums come out with the rows along a row of the tile, where everybody else has them.
#pragma once

#include "kernels/amx/matrix_unit_parts.hpp"
#include "kernels/amx/tiles.hpp"
#include "kernels/attention_arithmetic.hpp"
#include "kernels/simd/transpose.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

static_assert(tile_rows<float> == 2 * tile_units);

constexpr std::int64_t in_whole_tiles(std::int64_t count, std::int64_t of_a_tile) {
  return (count + of_a_tile - 1) / of_a_tile * of_a_tile;
}

template <>
struct TileArithmetic<bfloat16> : PairArithmetic {
  static constexpr int step_elements = 2 * tile_units;  // along a reduction
  static constexpr int weight_group = step_elements;
  // One tile's rows, sums and scores stay in the level-1 cache, through which 512 keys and values pass.
  static constexpr int key_block = 64;
  static constexpr int staged_blocks = 8;
  static constexpr bool fetches_keys = false;  // beside tiles that come from the level-1 cache it cost 1 to 16 %
  static constexpr bool products_sum_weights = true;

  static constexpr std::int64_t query_steps(std::int64_t head_size) {
    return in_whole_tiles(head_size, step_elements) / 2;
  }
  static constexpr std::int64_t value_rows(std::int64_t value_size) { return in_whole_tiles(value_size, tile_units); }
  static constexpr std::int64_t key_elements(std::int64_t head_size) { return key_block * padded(head_size) / 2; }
  static constexpr std::int64_t value_elements(std::int64_t value_size) { return key_block / 2 * padded(value_size); }

  // In place if tiles reach over nothing else, whole ones of dense rows; but a row across two cache lines is loaded in
  // twice the time, which copying repays where many rows meet the keys.
  static const Element* stage_keys(const bfloat16* source, std::int64_t& stride, std::int64_t count, std::int64_t width,
                                   std::int64_t rows, C* staged) {
    const bool split = rows >= 8 * tile_rows<C> && reinterpret_cast<std::uintptr_t>(source) % tile_bytes != 0;
    if (stride == width && width % step_elements == 0 && count % tile_units == 0 && !split) return source;
    auto* target = reinterpret_cast<bfloat16*>(staged);
    for (std::int64_t row = 0; row < in_whole_tiles(count, tile_units); ++row)
      for (std::int64_t d = 0; d < width; d += columns) {
        const u32v pairs = row < count ? load_columns(source + row * stride + d, width - d) : u32v{};
        __builtin_memcpy(target + row * padded(width) + d, &pairs, sizeof pairs);
      }
    stride = padded(width);
    return target;
  }

  // [key / 32][column][32 keys], zeros after the last key and the last column; the stride is that of 32 keys.
  static const Element* stage_values(const bfloat16* source, std::int64_t& stride, std::int64_t count,
                                     std::int64_t width, C* staged) {
    auto* const target = reinterpret_cast<bfloat16*>(staged);
    const std::int64_t source_stride = stride;
    stride = padded(width) * step_elements;
    for (std::int64_t key = 0; key < count; key += step_elements)
      for (std::int64_t d = 0; d < width; d += columns)
        transpose_values(source + key * source_stride + d, source_stride, count - key, width - d,
                         target + key * padded(width) + d * step_elements);
    return target;
  }

 private:
  // 32 keys by 32 columns. Two rows interleave within 128 bits, so that columns come out in the order 0 to 3, 8
  // to 11.., and the others: they are told apart when they are stored.
  static void transpose_values(const bfloat16* source, std::int64_t stride, std::int64_t keys, std::int64_t width,
                               bfloat16* target) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      vec<float> pairs[tile_units];
#pragma GCC unroll 16
      for (int pair = 0; pair < tile_units; ++pair) {
        const std::int64_t key = 2 * pair;
        const u32v first = key < keys ? load_columns(source + key * stride, width) : u32v{};
        const u32v second = key + 1 < keys ? load_columns(source + (key + 1) * stride, width) : u32v{};
        const __m512i a = bit_cast<__m512i>(first), b = bit_cast<__m512i>(second);
        pairs[pair] = bit_cast<vec<float>>(half == 0 ? _mm512_unpacklo_epi16(a, b) : _mm512_unpackhi_epi16(a, b));
      }
      transpose<float>(pairs);
#pragma GCC unroll 16
      for (int i = 0; i < tile_units; ++i)
        __builtin_memcpy(target + (i / 4 * 8 + i % 4 + 4 * half) * step_elements, &pairs[i], sizeof pairs[i]);
    }
  }
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
