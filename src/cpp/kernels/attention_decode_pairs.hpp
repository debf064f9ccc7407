// Decoding's products of bfloat16 by the instruction that multiplies pairs: features in pairs as they lie for the
// scores, keys in pairs, interleaved on the way, for the values.
#pragma once

#include "kernels/attention_decode_products.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

template <>
struct DecodeProducts<bfloat16> {
  using C = float;
  using Weight = bfloat16;
  static constexpr int columns = 2 * lanes<C>;   // in two accumulators
  static constexpr int vectors = 2;              // of two accumulators each
  static constexpr bool scales_queries = false;  // a scaled query would have to be rounded
  static constexpr bool rounds_weights = true;
  static constexpr int keys_ahead = 4 * block_keys<C>;
  static constexpr int step_bytes = vector_bytes;

  static constexpr std::int64_t padded(std::int64_t size) { return (size + columns - 1) / columns * columns; }
  static constexpr std::int64_t query_elements(std::int64_t rows, std::int64_t head_size) {
    return rows * padded(head_size) / 2;
  }
  static constexpr std::int64_t out_elements(std::int64_t value_size) { return padded(value_size); }

  ATTNLIB_INLINE u32v load_columns(const bfloat16* source, std::int64_t left) {
    return left < columns ? load_pairs_partial(source, static_cast<int>(left)) : load_pairs(source);
  }

  static void clear_queries(std::int64_t, std::int64_t, C*) {}  // each fills its own row
  static void stage_query(const bfloat16* query, std::int64_t head_size, C, int row, C* all) {
    C* const staged = all + query_elements(row, head_size);
    for (std::int64_t d = 0; d < head_size; d += columns)
      store(staged + d / 2, bit_cast<vec<C>>(load_columns(query + d, head_size - d)));
  }

  template <int Rows, int Keys>
  ATTNLIB_INLINE Dots<C, Rows, Keys> dots(const bfloat16* const* keys, LinesAhead ahead, const C* query,
                                          std::int64_t head_size) {
    Dots<C, Rows, Keys> result;
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int k = 0; k < Keys; ++k) result.sum[r][k] = zero<C>();
    const std::int64_t row_stride = query_elements(1, head_size);
    const bfloat16* key[Keys];
#pragma GCC unroll 4
    for (int k = 0; k < Keys; ++k) key[k] = keys[k];
    std::int64_t d = 0;
    for (; d + columns <= head_size; d += columns) {
      u32v features[Keys];
#pragma GCC unroll 4
      for (int k = 0; k < Keys; ++k) features[k] = keep_in_register(load_pairs(key[k] + d));
      ahead.fetch<Keys>();
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const u32v own = load_pairs(query + r * row_stride + d / 2);
#pragma GCC unroll 4
        for (int k = 0; k < Keys; ++k) result.sum[r][k] = dot_pairs(result.sum[r][k], features[k], own);
      }
    }
    if (d == head_size) return result;
    const int left = static_cast<int>(head_size - d);
#pragma GCC unroll 4
    for (int k = 0; k < Keys; ++k) {
      const u32v features = load_pairs_partial(key[k] + d, left);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r)
        result.sum[r][k] = dot_pairs(result.sum[r][k], features, load_pairs(query + r * row_stride + d / 2));
    }
    return result;
  }

  // Sums of 32 columns lie in the order in which two rows interleave within 128 bits, which takes half of the ports
  // that whole registers take: columns 0 to 3, 8 to 11 and so on, then the others.
  ATTNLIB_INLINE vec<C> load_sums(const C* sums, std::int64_t column) {
    const C* group = sums + column / columns * columns;
    return column % columns == 0 ? first_of_interleaved(load(group), load(group + lanes<C>))
                                 : second_of_interleaved(load(group), load(group + lanes<C>));
  }

  // As exact as their rounding wants, and rounded.
  ATTNLIB_INLINE vec<C> weight_of(vec<C> score) { return second_of_pairs(bit_cast<u32v>(exp2_to_be_cut(score))); }
  static void store_weights(vec<C> weights, Weight* target) {
    const u16v bits = narrow_weights(weights);
    __builtin_memcpy(target, &bits, sizeof bits);
  }

  template <int Rows, int Vectors>
  static void add_values(const bfloat16* const* values, LinesAhead ahead, std::int64_t column, int left,
                         const Weight* weights, C* out, std::int64_t out_stride) {
    vec<C> sum[Rows][2 * Vectors];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < 2 * Vectors; ++v) sum[r][v] = load(out + r * out_stride + column + v * lanes<C>);
    for (int key = 0; key < block_keys<C>; key += 2) {
      u32v value[2 * Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) {
        const std::int64_t own_left = Vectors > 1 ? columns : left;
        const u32v first = load_columns(values[key] + column + v * columns, own_left);
        const u32v second = load_columns(values[key + 1] + column + v * columns, own_left);
        const PairsOfRows pairs = interleave_within(first, second);
        value[2 * v] = pairs.low;
        value[2 * v + 1] = pairs.high;
      }
      ahead.fetch<Vectors>();  // of both rows
      ahead.fetch<Vectors>();
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const u32v weight = broadcast_pair(weights + r * decode_chunk + key);
#pragma GCC unroll 4
        for (int v = 0; v < 2 * Vectors; ++v) sum[r][v] = dot_pairs(sum[r][v], value[v], weight);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < 2 * Vectors; ++v) store(out + r * out_stride + column + v * lanes<C>, sum[r][v]);
  }
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
