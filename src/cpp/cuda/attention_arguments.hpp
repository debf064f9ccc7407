// What the attention kernel gets: plain data, passed by value. Strides count elements.
#pragma once

#include <cstdint>

#include "cuda/leading_axes.hpp"

namespace attnlib::cuda {

struct AttentionArguments {
  const void* query;  // (..., H, Sq, D)
  const void* key;    // (..., G, Sk, D)
  const void* value;  // (..., G, Sk, Dv)
  void* out;          // (..., H, Sq, Dv)
  // Strides of (head, row, column).
  std::int64_t query_strides[3], key_strides[3], value_strides[3], out_strides[3];
  LeadingAxes<5> batch;             // query, key, value, out, key_lengths
  const std::int64_t* key_lengths;  // one for each entry of the batch axes they have, or null: all keys are valid
  std::int64_t batches, heads, heads_per_group;
  std::int64_t queries, keys;
  int head_size, value_size;              // D, Dv
  bool query_wide, key_wide, value_wide;  // see Matrix::wide
  bool causal;
  float scale;  // times log2(e)
};

// The largest head size; a tile of queries with its keys and values must fit into shared memory and registers.
constexpr int max_head_size = 256;

}  // namespace attnlib::cuda
