// The two products of decoding on one block of keys (as many as a register of the compute type has lanes), with the
// features in the lanes. Rows of keys and values come as pointers, one for each key of the block: what must not be read
// (beyond the last key, or not finite and not seen) is replaced by another row, or by zeros.
#pragma once

#include "kernels/attention_decode_ahead.hpp"
#include "kernels/attention_rows.hpp"
#include "kernels/simd/reduce.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

template <class C>
constexpr int block_keys = lanes<C>;

// Registers that a product keeps for each of up to 4 rows: of keys that are scored together, or of columns.
constexpr int decode_vectors = vector_bytes == 64 ? 4 : 2;

template <class C>
constexpr std::int64_t whole_vectors(std::int64_t elements) {
  return (elements + lanes<C> - 1) / lanes<C> * lanes<C>;
}

// The dot products of Rows rows with Keys keys, not yet summed over the lanes.
template <class C, int Rows, int Keys>
struct Dots {
  vec<C> sum[Rows][Keys];
};

// How T is multiplied: widened to the compute type. attention_decode_pairs.hpp has bfloat16's other way.
template <class T>
struct DecodeProducts {
  using C = compute_type<T>;
  using Weight = C;
  static constexpr int vectors = decode_vectors;
  static constexpr int columns = lanes<C>;      // of value that belong to one accumulator
  static constexpr bool scales_queries = true;  // else the scores are still to be scaled
  static constexpr bool rounds_weights = false;
  static constexpr int keys_ahead = 4 * block_keys<C>;          // how far rows are fetched ahead
  static constexpr int step_bytes = lanes<C> * int{sizeof(T)};  // of a register of features

  static constexpr std::int64_t query_elements(std::int64_t rows, std::int64_t head_size) {
    return rows * whole_vectors<C>(head_size);
  }
  static constexpr std::int64_t out_elements(std::int64_t value_size) { return whole_vectors<C>(value_size); }

  static void clear_queries(std::int64_t, std::int64_t, C*) {}  // each fills its own row
  static void stage_query(const T* query, std::int64_t head_size, C scale, int row, C* all) {
    C* const staged = all + query_elements(row, head_size);
    for (std::int64_t d = 0; d < head_size; d += lanes<C>) {
      const std::int64_t left = head_size - d;
      store(staged + d, (left < lanes<C> ? load_partial(query + d, static_cast<int>(left)) : load(query + d)) *
                            broadcast<C>(scale));
    }
  }

  template <int Rows, int Keys>
  ATTNLIB_INLINE Dots<C, Rows, Keys> dots(const T* const* keys, LinesAhead ahead, const C* query,
                                          std::int64_t head_size) {
    Dots<C, Rows, Keys> result;
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int k = 0; k < Keys; ++k) result.sum[r][k] = zero<C>();
    const std::int64_t padded = query_elements(1, head_size);
    const T* key[Keys];
#pragma GCC unroll 4
    for (int k = 0; k < Keys; ++k) key[k] = keys[k];
    std::int64_t d = 0;
    for (; d + lanes<C> <= head_size; d += lanes<C>) {
      vec<C> features[Keys];
#pragma GCC unroll 4
      for (int k = 0; k < Keys; ++k) features[k] = keep_in_register(load(key[k] + d));
      ahead.fetch<Keys>();
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const vec<C> own = load(query + r * padded + d);
#pragma GCC unroll 4
        for (int k = 0; k < Keys; ++k) result.sum[r][k] = fma(features[k], own, result.sum[r][k]);
      }
    }
    if (d == head_size) return result;
    const int left = static_cast<int>(head_size - d);
#pragma GCC unroll 4
    for (int k = 0; k < Keys; ++k) {
      const vec<C> features = load_partial(key[k] + d, left);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) result.sum[r][k] = fma(features, load(query + r * padded + d), result.sum[r][k]);
    }
    return result;
  }

  // What has been summed up, from a column on.
  ATTNLIB_INLINE vec<C> load_sums(const C* sums, std::int64_t column) { return load(sums + column); }

  ATTNLIB_INLINE vec<C> weight_of(vec<C> score) { return exp2_nonpositive(score); }
  static void store_weights(vec<C> weights, Weight* target) { store(target, weights); }

  // out[row][d] += sum_key weights[row][key] values[key][d] for Rows rows and Vectors registers of columns.
  template <int Rows, int Vectors>
  static void add_values(const T* const* values, LinesAhead ahead, std::int64_t column, int left, const Weight* weights,
                         C* out, std::int64_t out_stride) {
    vec<C> sum[Rows][Vectors];
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[r][v] = load(out + r * out_stride + column + v * lanes<C>);
#pragma GCC unroll 2
    for (int key = 0; key < block_keys<C>; ++key) {
      vec<C> value[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) {
        const T* place = values[key] + column + v * lanes<C>;
        value[v] = keep_in_register(Vectors > 1 || left >= lanes<C> ? load(place) : load_partial(place, left));
      }
      ahead.fetch<Vectors>();
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const vec<C> weight = broadcast<C>(weights[r * decode_chunk + key]);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[r][v] = fma(value[v], weight, sum[r][v]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) store(out + r * out_stride + column + v * lanes<C>, sum[r][v]);
  }
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA

#if defined(ATTNLIB_DOT_BFLOAT16)
#include "kernels/attention_decode_pairs.hpp"
#endif

namespace attnlib::ATTNLIB_ISA {
namespace {

// scores[row][key] of Rows rows and a block of keys; `scores` points to the block's place in the rows of a chunk. A few
// keys share the loads of the query, and become one register of a row before the next ones come.
template <class T, int Rows, class C = compute_type<T>>
void score_block(const T* const* keys, const BlockAhead& ahead, const C* query, std::int64_t head_size, C* scores) {
  constexpr int step = block_keys<C> < decode_vectors ? block_keys<C> : decode_vectors, steps = block_keys<C> / step;
  vec<C> part[Rows][steps];
#pragma GCC unroll 4
  for (int i = 0; i < steps; ++i) {
    const auto dots = DecodeProducts<T>::template dots<Rows, step>(
        keys + i * step, ahead.rows_from<step, DecodeProducts<T>::step_bytes>(i * step), query, head_size);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) part[r][i] = add_transposed<C, step>(dots.sum[r]);
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r) store(scores + r * decode_chunk, add_transposed<C, steps, step>(part[r]));
}

// Rows in blocks of 4, and of what is left.
template <class Visit>
ATTNLIB_INLINE void for_each_row_block(int rows, Visit visit) {
  int row = 0;
  for (; row + 4 <= rows; row += 4) visit.template operator()<4>(row);
  switch (rows - row) {
    case 3:
      return visit.template operator()<3>(row);
    case 2:
      return visit.template operator()<2>(row);
    case 1:
      return visit.template operator()<1>(row);
  }
}

template <class T, class C = compute_type<T>>
ATTNLIB_INLINE void score_rows(const T* const* keys, const BlockAhead& ahead, int rows, const C* query,
                               std::int64_t head_size, C* scores) {
  const std::int64_t padded = DecodeProducts<T>::query_elements(1, head_size);
  const BlockAhead nothing = BlockAhead::nothing(keys[0]);
  for_each_row_block(rows, [&]<int Rows>(int row) __attribute__((always_inline)) {
    score_block<T, Rows>(keys, row == 0 ? ahead : nothing, query + row * padded, head_size,
                         scores + row * decode_chunk);
  });
}

template <class T, class Weight, class C = compute_type<T>>
ATTNLIB_INLINE void add_block_values(const T* const* values, const BlockAhead& ahead, int rows, std::int64_t value_size,
                                     const Weight* weights, C* out) {
  using Products = DecodeProducts<T>;
  const std::int64_t stride = Products::out_elements(value_size);
  for_each_row_block(rows, [&]<int Rows>(int row) __attribute__((always_inline)) {
    const Weight* own = weights + row * decode_chunk;
    C* place = out + row * stride;
    constexpr int width = Products::vectors * Products::columns;
    const BlockAhead fetched = row == 0 ? ahead : BlockAhead::nothing(values[0]);
    std::int64_t column = 0;
    const auto add = [&]<int Vectors>(int left) __attribute__((always_inline)) {
      constexpr int bytes = Vectors * Products::step_bytes;
      const LinesAhead lines =
          fetched.columns_from<block_keys<C>, bytes, Products::step_bytes>(column * std::int64_t{sizeof(T)});
      Products::template add_values<Rows, Vectors>(values, lines, column, left, own, place, stride);
    };
    for (; column + width <= value_size; column += width) add.template operator()<Products::vectors>(width);
    for (; column < value_size; column += Products::columns)
      add.template operator()<1>(static_cast<int>(value_size - column));
  });
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
