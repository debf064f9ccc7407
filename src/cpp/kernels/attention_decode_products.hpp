// The two products of decoding on one block of keys (as many as a register of the compute type has lanes), with the
// features in the lanes. Rows of keys and values come as pointers, one for each key of the block: what must not be read
// (beyond the last key, or not finite and not seen) is replaced by another row, or by zeros.
#pragma once

#include "kernels/simd/reduce.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

template <class C>
constexpr int block_keys = lanes<C>;

// Registers of columns that add_values keeps for each of up to 4 rows.
constexpr int decode_vectors = vector_bytes == 64 ? 4 : 2;

template <class C>
constexpr std::int64_t whole_vectors(std::int64_t elements) {
  return (elements + lanes<C> - 1) / lanes<C> * lanes<C>;
}

// Asks for the memory of rows to come, line by line in the order in which they lie, at the pace at which rows are read:
// the products meet 4 rows at a time, which the processor's prefetchers do not follow, and many requests at once would
// have the loads wait behind them.
struct RowsAhead {
  const char* row;
  std::int64_t stride, width;  // in bytes
  std::int64_t rows;           // from `row` on
  std::int64_t byte = 0;

  // To be called once for so many bytes that are read.
  template <int Bytes, int Locality = 2>
  ATTNLIB_INLINE void fetch(RowsAhead* self) {
    if (self == nullptr) return;
    __builtin_prefetch(self->row + self->byte, 0, Locality);
    self->byte += Bytes;
    if (self->byte < self->width) return;
    self->byte = 0;
    if (self->rows == 1) return;
    self->row += self->stride;
    --self->rows;
  }
};

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
  static constexpr int keys_ahead = 4 * block_keys<C>;  // how far rows are fetched ahead

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
  ATTNLIB_INLINE Dots<C, Rows, Keys> dots(const T* const* keys, RowsAhead* ahead, const C* query,
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
      for (int k = 0; k < Keys; ++k) {
        features[k] = load(key[k] + d);
        RowsAhead::fetch<lanes<C> * sizeof(T)>(ahead);
      }
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

  static void store_weights(vec<C> weights, Weight* target) { store(target, weights); }

  // out[row][d] += sum_key weights[row][key] values[key][d] for Rows rows and Vectors registers of columns.
  template <int Rows, int Vectors>
  static void add_values(const T* const* values, RowsAhead* ahead, std::int64_t column, int left, const Weight* weights,
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
        value[v] = Vectors > 1 || left >= lanes<C> ? load(place) : load_partial(place, left);
        RowsAhead::fetch<lanes<C> * sizeof(T)>(ahead);
      }
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

// scores[row][key] of Rows rows and a block of keys; `scores` points to the block's place in the rows of a chunk.
template <class T, int Rows, class C = compute_type<T>>
void score_block(const T* const* keys, RowsAhead* ahead, const C* query, std::int64_t head_size, C* scores) {
  constexpr int together = block_keys<C> / Rows;     // keys of one reduction
  constexpr int step = together < 4 ? together : 4;  // of which so many share the loads of the query
#pragma GCC unroll 1
  for (int part = 0; part < Rows; ++part) {
    vec<C> sum[lanes<C>];
#pragma GCC unroll 4
    for (int first = 0; first < together; first += step) {
      const T* const* own = keys + part * together + first;
      const auto dots = DecodeProducts<T>::template dots<Rows, step>(own, ahead, query, head_size);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int k = 0; k < step; ++k) sum[r * together + first + k] = dots.sum[r][k];
    }
    alignas(vector_bytes) C reduced[lanes<C>];
    store(reduced, add_transposed<C>(sum));
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r)
      __builtin_memcpy(scores + r * decode_chunk + part * together, reduced + r * together, together * sizeof(C));
  }
}

// Rows in blocks of 4, 2 and 1 (no more than a register has lanes): visit<Rows>(first row).
template <class C, class Visit>
ATTNLIB_INLINE void for_each_row_block(int rows, Visit visit) {
  int row = 0;
  if constexpr (lanes<C> >= 4)
    for (; row + 4 <= rows; row += 4) visit.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) visit.template operator()<2>(row);
  if (row < rows) visit.template operator()<1>(row);
}

template <class T, class C = compute_type<T>>
ATTNLIB_INLINE void score_rows(const T* const* keys, RowsAhead* ahead, int rows, const C* query, std::int64_t head_size,
                               C* scores) {
  const std::int64_t padded = DecodeProducts<T>::query_elements(1, head_size);
  for_each_row_block<C>(rows, [&]<int Rows>(int row) __attribute__((always_inline)) {
    score_block<T, Rows>(keys, row == 0 ? ahead : nullptr, query + row * padded, head_size,
                         scores + row * decode_chunk);
  });
}

template <class T, class Weight, class C = compute_type<T>>
ATTNLIB_INLINE void add_block_values(const T* const* values, RowsAhead* ahead, int rows, std::int64_t value_size,
                                     const Weight* weights, C* out) {
  using Products = DecodeProducts<T>;
  const std::int64_t stride = Products::out_elements(value_size);
  for_each_row_block<C>(rows, [&]<int Rows>(int row) __attribute__((always_inline)) {
    const Weight* own = weights + row * decode_chunk;
    C* place = out + row * stride;
    constexpr int width = Products::vectors * Products::columns;
    std::int64_t column = 0;
    for (; column + width <= value_size; column += width)
      Products::template add_values<Rows, Products::vectors>(values, row == 0 ? ahead : nullptr, column, width, own,
                                                             place, stride);
    for (; column < value_size; column += Products::columns)
      Products::template add_values<Rows, 1>(values, row == 0 ? ahead : nullptr, column,
                                             static_cast<int>(value_size - column), own, place, stride);
  });
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
