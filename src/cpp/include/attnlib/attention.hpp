// Scaled dot-product attention.
//
// H query heads share G heads of keys and values (H a multiple of G); Sq queries, Sk keys, D features of queries and
// keys, Dv of values; leading axes are a batch, and broadcast. Arrays of two axes are one head. Scores are made in this
// order: query . key * scale, then softcap * tanh(score / softcap), then + bias, then the ALiBi term
// -slope * |position(i) - j|; what is not allowed is left out, and the rest goes through a softmax.
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
  const BoolView* mask = nullptr;    // broadcasts to the weights' shape; true may attend
  const TensorView* bias = nullptr;  // broadcasts to the weights' shape; the queries' dtype; -infinity removes
  bool causal = false;               // only keys j <= position(i) of query i
  // Only keys with position(i) - window_left <= j <= position(i) + window_right; unset: open on that side.
  std::optional<std::int64_t> window_left, window_right;
  // position(i) = query_offset + i; null: valid keys - Sq, so that the last query sees the last valid key.
  const IntegerView* query_offset = nullptr;
  const IntegerView* key_lengths = nullptr;  // how many keys are valid, 0..Sk; null: all
  std::optional<double> scale;               // unset: D ** -0.5
  std::optional<double> softcap;             // positive
  const TensorView* alibi_slopes = nullptr;  // (H,), contiguous, of the compute dtype
  const TensorView* sinks = nullptr;         // (H,), likewise: one more logit of each head, without a value
};

struct AttentionResults {
  TensorView out;                       // a query that may attend to nothing gets zeros
  const TensorView* weights = nullptr;  // the dtype of out; null: they are never held in memory
  const TensorView* lse = nullptr;      // log(sum(exp(scores))), of the compute dtype; -infinity where out is zeros
};

// query, key, value and the results are contiguous along the last axis; query, key, value, bias, out, weights share a
// dtype. std::invalid_argument for shapes that do not fit and options out of range.
void attention(const TensorView& query, const TensorView& key, const TensorView& value, const AttentionOptions& options,
               const AttentionResults& results);

// The same over sequences packed end to end: query (Tq, H, D), key (Tk, G, D), value (Tk, G, Dv), out (Tq, H, Dv), lse
// (Tq, H). Sequence n has the queries cu_seqlens_q[n] .. cu_seqlens_q[n + 1] - 1, and the keys likewise. Of the options
// mask, bias, query_offset and key_lengths must be unset.
AttentionShapes attention_varlen_shapes(const Shape& query, const Shape& key, const Shape& value);
// std::invalid_argument unless `offsets`, called `name`, rise from 0 to `total`, the extent of `axis`.
void check_offsets(const char* operation, std::span<const std::int64_t> offsets, std::int64_t total, const char* name,
                   const char* axis);
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
