// The two products of attention on one tile of rows: keys times queries, and values times weights. Both keep the rows
// in the lanes and broadcast the other operand from where it lies; see kernels/attention.hpp for the register budget.
// A is the arithmetic (attention_arithmetic.hpp); a step takes A::together elements of the reduction.
#pragma once

#include "kernels/attention_ahead.hpp"
#include "kernels/attention_arithmetic.hpp"
#if defined(ATTNLIB_MATRIX_UNIT)
#include "kernels/amx/attention_arithmetic.hpp"
#endif

namespace attnlib::ATTNLIB_ISA {
namespace {

// scores[key][row] = sum_d keys[key][d] query[d][row] for Keys keys, times scale if the query does not have it.
template <class A, int Keys, class C = typename A::C>
void score_keys(const typename A::Element* keys, std::int64_t key_stride, const C* query, std::int64_t steps, C scale,
                C* scores) {
  vec<C> sum[Keys][tile_vectors];
#pragma GCC unroll 16
  for (int key = 0; key < Keys; ++key)
    for (int v = 0; v < tile_vectors; ++v) sum[key][v] = zero<C>();
#pragma GCC unroll 2
  for (std::int64_t step = 0; step < steps; ++step) {
    typename A::Operand row[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) row[v] = A::load_rows(query + step * tile_rows<C> + v * lanes<C>);
#pragma GCC unroll 16
    for (int key = 0; key < Keys; ++key) {
      const auto element = A::broadcast_element(keys + key * key_stride + step * A::together);
      for (int v = 0; v < tile_vectors; ++v) sum[key][v] = A::multiply_add(element, row[v], sum[key][v]);
    }
  }
#pragma GCC unroll 16
  for (int key = 0; key < Keys; ++key)
    for (int v = 0; v < tile_vectors; ++v)
      store(scores + key * tile_rows<C> + v * lanes<C>,
            A::scales_queries ? sum[key][v] : sum[key][v] * broadcast<C>(scale));
}

// accumulated[d][row] = accumulated[d][row] * correction[row] + sum_key values[key][d] weights[key][row] for Columns d;
// without the first term if `correction` is null: nothing has been written there yet.
// The block is summed on its own first: with S keys the rounding errors then grow like sqrt(key_block + S / key_block).
template <class A, int Columns, class C = typename A::C>
void add_values(const typename A::Element* values, std::int64_t value_stride, std::int64_t steps, const C* weights,
                const vec<C>* correction, C* accumulated) {
  vec<C> sum[Columns][tile_vectors];
#pragma GCC unroll 16
  for (int d = 0; d < Columns; ++d)
    for (int v = 0; v < tile_vectors; ++v) sum[d][v] = zero<C>();
#pragma GCC unroll 2
  for (std::int64_t step = 0; step < steps; ++step) {
    typename A::Operand weight[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) weight[v] = A::load_rows(weights + step * tile_rows<C> + v * lanes<C>);
#pragma GCC unroll 16
    for (int d = 0; d < Columns; ++d) {
      const auto element = A::broadcast_element(values + step * value_stride + d * A::together);
      for (int v = 0; v < tile_vectors; ++v) sum[d][v] = A::multiply_add(element, weight[v], sum[d][v]);
    }
  }
#pragma GCC unroll 16
  for (int d = 0; d < Columns; ++d) {
    for (int v = 0; v < tile_vectors; ++v) {
      C* place = accumulated + d * tile_rows<C> + v * lanes<C>;
      store(place, correction == nullptr ? sum[d][v] : fma(load(place), correction[v], sum[d][v]));
    }
  }
}

// Both products in tiles of A::rows, the last of them as narrow as what is left.
template <class A, int Keys = A::rows, class C = typename A::C>
ATTNLIB_INLINE void score_rest(const typename A::Element* keys, std::int64_t key_stride, int count, const C* query,
                               std::int64_t steps, C scale, C* scores) {
  if constexpr (Keys > 0) {
    if (count == Keys)
      score_keys<A, Keys>(keys, key_stride, query, steps, scale, scores);
    else
      score_rest<A, Keys - 1>(keys, key_stride, count, query, steps, scale, scores);
  }
}

template <class A, class C = typename A::C>
void multiply_scores(const typename A::Element* keys, std::int64_t key_stride, std::int64_t count, const C* query,
                     std::int64_t head_size, C scale, C* scores, TileAhead& ahead) {
  const std::int64_t steps = A::query_steps(head_size);
  std::int64_t key = 0;
  for (; key + A::rows <= count; key += A::rows) {
    ahead.fetch_share();
    score_keys<A, A::rows>(keys + key * key_stride, key_stride, query, steps, scale, scores + key * tile_rows<C>);
  }
  score_rest<A>(keys + key * key_stride, key_stride, static_cast<int>(count - key), query, steps, scale,
                scores + key * tile_rows<C>);
}

template <class A, int Columns = A::rows, class C = typename A::C>
ATTNLIB_INLINE void add_rest(const typename A::Element* values, std::int64_t value_stride, int columns,
                             std::int64_t steps, const C* weights, const vec<C>* correction, C* accumulated) {
  if constexpr (Columns > 0) {
    if (columns == Columns)
      add_values<A, Columns>(values, value_stride, steps, weights, correction, accumulated);
    else
      add_rest<A, Columns - 1>(values, value_stride, columns, steps, weights, correction, accumulated);
  }
}

template <class A, class C = typename A::C>
void multiply_values(const typename A::Element* values, std::int64_t value_stride, std::int64_t steps, const C* weights,
                     std::int64_t value_size, const vec<C>* correction, C* accumulated, TileAhead& ahead) {
  std::int64_t d = 0;
  for (; d + A::rows <= value_size; d += A::rows) {
    ahead.fetch_share();
    add_values<A, A::rows>(values + d * A::together, value_stride, steps, weights, correction,
                           accumulated + d * tile_rows<C>);
  }
  add_rest<A>(values + d * A::together, value_stride, static_cast<int>(value_size - d), steps, weights, correction,
              accumulated + d * tile_rows<C>);
}

// multiply_values for values that are not all finite: a row whose weight is 0 meets a 0, where 0 * NaN would be NaN.
template <class A, class C = typename A::C>
void multiply_seen_values(const typename A::Element* values, std::int64_t value_stride, std::int64_t steps,
                          const C* weights, std::int64_t value_size, const vec<C>* correction, C* accumulated) {
  for (std::int64_t d = 0; d < value_size; ++d) {
    for (int v = 0; v < tile_vectors; ++v) {
      vec<C> sum = zero<C>();
      for (std::int64_t step = 0; step < steps; ++step) {
        const auto weight = A::load_rows(weights + step * tile_rows<C> + v * lanes<C>);
        const auto element = A::broadcast_element(values + step * value_stride + d * A::together);
        sum = A::multiply_add(A::where_weighted(element, weight), weight, sum);
      }
      C* place = accumulated + d * tile_rows<C> + v * lanes<C>;
      store(place, correction == nullptr ? sum : fma(load(place), correction[v], sum));
    }
  }
}

// The products of a tile with the keys [first, last) of a block. `weights` lie where the scores of these keys lay,
// pairs of them at half the distance from the block's begin; for values, first and last are multiples of
// A::weight_group. Where exponentiate() leaves that to them, the weights are added to `used`.
template <class A>
struct TileProducts {
  using C = typename A::C;
  using Element = typename A::Element;

  // How many products, each of which fetches its share of what is ahead, a tile and `keys` keys are.
  static std::int64_t products_of(std::int64_t keys, std::int64_t value_size) {
    return keys / A::rows + value_size / A::rows;
  }
  static void scores(const Element* keys, std::int64_t stride, int first, int last, const C* query,
                     std::int64_t head_size, C scale, C* scores, TileAhead& ahead) {
    multiply_scores<A>(keys + first * stride, stride, last - first, query, head_size, scale,
                       scores + first * tile_rows<C>, ahead);
  }
  static bool all_finite(const Element* values, std::int64_t stride, int first, int last, std::int64_t value_size) {
    const Steps steps(first, last);
    return A::all_finite(values + steps.first * stride, stride, steps.count, value_size);
  }
  static void values(const Element* values, std::int64_t stride, int first, int last, const C* weights,
                     std::int64_t value_size, const vec<C>* correction, C* accumulated, C*, TileAhead& ahead) {
    const Steps steps(first, last);
    multiply_values<A>(values + steps.first * stride, stride, steps.count, weights + steps.first * tile_rows<C>,
                       value_size, correction, accumulated, ahead);
  }
  static void seen_values(const Element* values, std::int64_t stride, int first, int last, const C* weights,
                          std::int64_t value_size, const vec<C>* correction, C* accumulated, C*) {
    const Steps steps(first, last);
    multiply_seen_values<A>(values + steps.first * stride, stride, steps.count, weights + steps.first * tile_rows<C>,
                            value_size, correction, accumulated);
  }

 private:
  struct Steps {
    std::int64_t first, count;
    Steps(int first_key, int last_key)
        : first(first_key / A::together), count((last_key + A::together - 1) / A::together - first) {}
  };
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA

#if defined(ATTNLIB_MATRIX_UNIT)
#include "kernels/amx/attention_products.hpp"
#endif
