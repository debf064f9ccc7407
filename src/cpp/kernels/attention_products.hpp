// The two products of attention on one tile of rows: keys times queries, and values times weights. Both keep the rows
// in the lanes and broadcast the other operand from where it lies; see kernels/attention.hpp for the register budget.
#pragma once

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr int tile_vectors = 2;
template <class C>
constexpr int tile_rows = tile_vectors * lanes<C>;

// scores[key][row] = sum_d keys[key][d] query[d][row] for Keys keys.
template <class C, int Keys>
void score_keys(const C* keys, std::int64_t key_stride, const C* query, std::int64_t head_size, C* scores) {
  vec<C> sum[Keys][tile_vectors];
#pragma GCC unroll 16
  for (int key = 0; key < Keys; ++key)
    for (int v = 0; v < tile_vectors; ++v) sum[key][v] = zero<C>();
#pragma GCC unroll 2
  for (std::int64_t d = 0; d < head_size; ++d) {
    vec<C> row[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) row[v] = load(query + d * tile_rows<C> + v * lanes<C>);
#pragma GCC unroll 16
    for (int key = 0; key < Keys; ++key) {
      const vec<C> value = broadcast<C>(keys[key * key_stride + d]);
      for (int v = 0; v < tile_vectors; ++v) sum[key][v] = fma(value, row[v], sum[key][v]);
    }
  }
#pragma GCC unroll 16
  for (int key = 0; key < Keys; ++key)
    for (int v = 0; v < tile_vectors; ++v) store(scores + key * tile_rows<C> + v * lanes<C>, sum[key][v]);
}

// accumulated[d][row] = accumulated[d][row] * correction[row] + sum_key values[key][d] weights[key][row] for Columns d.
// The block is summed on its own first: with S keys the rounding errors then grow like sqrt(key_block + S / key_block).
template <class C, int Columns>
void add_values(const C* values, std::int64_t value_stride, int count, const C* weights, const vec<C>* correction,
                C* accumulated) {
  vec<C> sum[Columns][tile_vectors];
#pragma GCC unroll 16
  for (int d = 0; d < Columns; ++d)
    for (int v = 0; v < tile_vectors; ++v) sum[d][v] = zero<C>();
#pragma GCC unroll 2
  for (int key = 0; key < count; ++key) {
    vec<C> weight[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) weight[v] = load(weights + key * tile_rows<C> + v * lanes<C>);
#pragma GCC unroll 16
    for (int d = 0; d < Columns; ++d) {
      const vec<C> value = broadcast<C>(values[key * value_stride + d]);
      for (int v = 0; v < tile_vectors; ++v) sum[d][v] = fma(value, weight[v], sum[d][v]);
    }
  }
#pragma GCC unroll 16
  for (int d = 0; d < Columns; ++d) {
    for (int v = 0; v < tile_vectors; ++v) {
      C* place = accumulated + d * tile_rows<C> + v * lanes<C>;
      store(place, fma(load(place), correction[v], sum[d][v]));
    }
  }
}

// Both products in tiles of `attention_rows`, the last of them as narrow as what is left.
template <class C, int Keys = attention_rows>
ATTNLIB_INLINE void score_rest(const C* keys, std::int64_t key_stride, int count, const C* query,
                               std::int64_t head_size, C* scores) {
  if constexpr (Keys > 0) {
    if (count == Keys)
      score_keys<C, Keys>(keys, key_stride, query, head_size, scores);
    else
      score_rest<C, Keys - 1>(keys, key_stride, count, query, head_size, scores);
  }
}

template <class C>
void multiply_scores(const C* keys, std::int64_t key_stride, std::int64_t count, const C* query, std::int64_t head_size,
                     C* scores) {
  std::int64_t key = 0;
  for (; key + attention_rows <= count; key += attention_rows)
    score_keys<C, attention_rows>(keys + key * key_stride, key_stride, query, head_size, scores + key * tile_rows<C>);
  score_rest<C>(keys + key * key_stride, key_stride, static_cast<int>(count - key), query, head_size,
                scores + key * tile_rows<C>);
}

template <class C, int Columns = attention_rows>
ATTNLIB_INLINE void add_rest(const C* values, std::int64_t value_stride, int columns, int count, const C* weights,
                             const vec<C>* correction, C* accumulated) {
  if constexpr (Columns > 0) {
    if (columns == Columns)
      add_values<C, Columns>(values, value_stride, count, weights, correction, accumulated);
    else
      add_rest<C, Columns - 1>(values, value_stride, columns, count, weights, correction, accumulated);
  }
}

template <class C>
void multiply_values(const C* values, std::int64_t value_stride, int count, const C* weights, std::int64_t value_size,
                     const vec<C>* correction, C* accumulated) {
  std::int64_t d = 0;
  for (; d + attention_rows <= value_size; d += attention_rows)
    add_values<C, attention_rows>(values + d, value_stride, count, weights, correction, accumulated + d * tile_rows<C>);
  add_rest<C>(values + d, value_stride, static_cast<int>(value_size - d), count, weights, correction,
              accumulated + d * tile_rows<C>);
}

// Whether no value is NaN or infinite: such a one times 0 is NaN, and so is then the sum.
template <class C>
bool all_finite(const C* values, std::int64_t value_stride, int count, std::int64_t value_size) {
  vec<C> sum = zero<C>();
  for (int key = 0; key < count; ++key, values += value_stride) {
    std::int64_t d = 0;
    for (; d + lanes<C> <= value_size; d += lanes<C>) sum = fma(load(values + d), zero<C>(), sum);
    if (d < value_size) sum = fma(load_partial(values + d, static_cast<int>(value_size - d)), zero<C>(), sum);
  }
  return !any<C>(sum != zero<C>());
}

// multiply_values for values that are not all finite: a row whose weight is 0 takes nothing, where 0 * NaN would be
// NaN.
template <class C>
void multiply_seen_values(const C* values, std::int64_t value_stride, int count, const C* weights,
                          std::int64_t value_size, const vec<C>* correction, C* accumulated) {
  for (std::int64_t d = 0; d < value_size; ++d) {
    for (int v = 0; v < tile_vectors; ++v) {
      vec<C> sum = zero<C>();
      for (int key = 0; key < count; ++key) {
        const vec<C> weight = load(weights + key * tile_rows<C> + v * lanes<C>);
        sum = weight == zero<C>() ? sum : fma(broadcast<C>(values[key * value_stride + d]), weight, sum);
      }
      C* place = accumulated + d * tile_rows<C> + v * lanes<C>;
      store(place, fma(load(place), correction[v], sum));
    }
  }
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
