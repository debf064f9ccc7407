// A chunk of decoding's keys or values, as a Multiplier gets it (kernels/attention_decode_algorithm.hpp).
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

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
