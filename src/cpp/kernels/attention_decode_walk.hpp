// A chunk of decoding's keys or values, and the walk over it block by block.
#pragma once

#include "kernels/attention_decode_products.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// The keys of a chunk that some row may see, counted from the chunk's begin.
struct ChunkRange {
  std::int64_t begin;
  int first, last;
};

// The first key of the first block that holds some of them.
template <class C>
int first_block(const ChunkRange& range) {
  return range.first / block_keys<C> * block_keys<C>;
}

// Rows of keys or values of a chunk, and those that are to be fetched meanwhile.
template <class T>
struct ChunkRows {
  const T* rows;  // that of the chunk's first key
  std::int64_t stride;
  ChunkRange range;
  RowsAhead ahead;
};

// The products of a chunk, block after block.
template <class T>
struct BlockWalk {
  using Element = T;
  using C = compute_type<T>;
  using Products = DecodeProducts<T>;
  using Weight = typename Products::Weight;

  // Pointers to the rows of one block; keys outside the range get the nearest row inside, or `other`.
  static void point_to(const ChunkRows<T>& chunk, int block, const T* other, const T** pointers) {
    for (int i = 0; i < block_keys<C>; ++i) {
      const int key = block + i, first = chunk.range.first, last = chunk.range.last;
      const int inside = key < first ? first : key >= last ? last - 1 : key;
      pointers[i] = inside == key || other == nullptr ? chunk.rows + inside * chunk.stride : other;
    }
  }

  static void score(ChunkRows<T> keys, int rows, const C* query, std::int64_t head_size, C* scores) {
    for (int block = first_block<C>(keys.range); block < keys.range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(keys, block, nullptr, pointers);
      score_rows<T>(pointers, &keys.ahead, rows, query, head_size, scores + block);
    }
  }

  static void add_values(ChunkRows<T> values, int rows, const Weight* weights, std::int64_t value_size, const T* zeros,
                         C* out) {
    for (int block = first_block<C>(values.range); block < values.range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(values, block, zeros, pointers);
      add_block_values<T>(pointers, &values.ahead, rows, value_size, weights + block, out);
    }
  }

  // One row, which reads zeros where it weighs nothing.
  static void add_seen_values(const ChunkRows<T>& values, const Weight* weights, std::int64_t value_size,
                              const T* zeros, C* out) {
    for (int block = first_block<C>(values.range); block < values.range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(values, block, zeros, pointers);
      const vec<C> weight = load(weights + block);
      for (int i = 0; i < block_keys<C>; ++i)
        if (weight[i] == C{0}) pointers[i] = zeros;
      add_block_values<T>(pointers, nullptr, 1, value_size, weights + block, out);
    }
  }
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
