// Scaled dot-product attention. The meaning of every option is in attnlib/functional/attention.py.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "attnlib/tensor_view.hpp"

namespace attnlib {

struct AttentionShapes {
  Shape batch;    // the leading axes, broadcast
  Shape out;      // (..., H, Sq, Dv)
  Shape weights;  // (..., H, Sq, Sk)
  Shape lse;      // (..., H, Sq)
};

// Shapes of the results of query (..., H, Sq, D), key (..., G, Sk, D) and value (..., G, Sk, Dv);
// std::invalid_argument if they do not fit.
AttentionShapes attention_shapes(const Shape& query, const Shape& key, const Shape& value);

// Integers that broadcast to the batch axes, such as key_lengths.
using IntegerView = StridedView<const std::int64_t>;

struct AttentionOptions {
  const BoolView* mask = nullptr;    // broadcasts to the weights' shape
  const TensorView* bias = nullptr;  // broadcasts to the weights' shape; the queries' dtype
  bool causal = false;
  std::optional<std::int64_t> window_left, window_right;
  const IntegerView* query_offset = nullptr;
  const IntegerView* key_lengths = nullptr;
  std::optional<double> scale;
  std::optional<double> softcap;
  const TensorView* alibi_slopes = nullptr;  // (H,), contiguous, of the compute dtype
  const TensorView* sinks = nullptr;         // (H,), likewise
};

struct AttentionResults {
  TensorView out;
  const TensorView* weights = nullptr;  // the dtype of out
  const TensorView* lse = nullptr;      // the compute dtype
};

// query, key, value and the results are contiguous along the last axis; query, key, value, bias, out, weights share a
// dtype.
void attention(const TensorView& query, const TensorView& key, const TensorView& value, const AttentionOptions& options,
               const AttentionResults& results);

// The same over sequences packed end to end: query (Tq, H, D), key (Tk, G, D), value (Tk, G, Dv), out (Tq, H, Dv), lse
// (Tq, H). Sequence n has the queries cu_seqlens_q[n] .. cu_seqlens_q[n + 1] - 1, and the keys likewise. Of the options
// mask, bias, query_offset and key_lengths must be unset.
AttentionShapes attention_varlen_shapes(const Shape& query, const Shape& key, const Shape& value);
void attention_varlen(const TensorView& query, const TensorView& key, const TensorView& value,
                      std::span<const std::int64_t> cu_seqlens_q, std::span<const std::int64_t> cu_seqlens_k,
                      const AttentionOptions& options, const AttentionResults& results);

// One step of a decoder: the new tokens of each sequence go behind those in its cache, and attend to all of them.
struct CachedTokens {
  TensorView query, key, value;       // (B, H, S, D), (B, G, S, D), (B, G, S, Dv), contiguous along the last axis
  TensorView key_cache, value_cache;  // (B, G, capacity, D), (B, G, capacity, Dv), likewise; all of one dtype
  IntegerView lengths;                // (B,): tokens that the cache holds
  // Rotary position embedding of queries and keys on the way: tables (max_position, R / 2), or null, and the positions
  // (S,) or (B, S) of the new tokens; null: they follow `lengths`. Or rows picked from tables, (B, S, R / 2), and null.
  const TensorView* cos = nullptr;
  const TensorView* sin = nullptr;
  const IntegerView* positions = nullptr;
};

// Of the options mask, bias, query_offset and key_lengths must be unset; out is (B, H, S, Dv). Whatever fails leaves
// the tokens that the cache holds as they were.
void cached_attention(const CachedTokens& tokens, const AttentionOptions& options, const TensorView& out);

// Joins partial results over disjoint sets of keys: outs (N, ..., S, D), lses (N, ..., S) of the compute dtype.
// out[s] = sum_n outs[n, s] exp(lses[n, s] - lse[s]), lse[s] = log sum_n exp(lses[n, s]).
void merge_attention(const TensorView& outs, const TensorView& lses, const TensorView& out, const TensorView& lse);

}  // namespace attnlib
