// The first half of a Llama layer in a decoder's step: self-attention over a cache after a norm, added to its input.
#pragma once

#include "attnlib/attention.hpp"
#include "attnlib/matmul.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

// Letters: H query heads and G key/value heads of size D, d features.
struct SelfAttention {
  const TensorView* norm_weight;  // (d,), or none
  double eps;                     // as for rms_norm, of all norms here
  std::int64_t heads, groups;
  const PackedWeight* in_proj;             // ((H + 2 G) D, d): of queries, keys, values
  const PackedWeight* out_proj;            // (d, H D)
  const TensorView* in_bias = nullptr;     // ((H + 2 G) D,), or none
  const TensorView* out_bias = nullptr;    // (d,), or none
  const TensorView* query_norm = nullptr;  // (D,), or no norm of the heads
  const TensorView* key_norm = nullptr;
};

// std::invalid_argument unless x, (B, S, d), and the weights go with each other.
void check_self_attention(const TensorView& x, const SelfAttention& attention);

// out = x + cached_attention(queries, keys, values) @ out_proj.T + out_bias, where queries, keys and values are the
// heads of rms_norm(x) @ in_proj.T + in_bias. `tokens` and `options` as for cached_attention, but without query, key
// and value. out has x's shape and shares no memory with the others.
void cached_self_attention(const TensorView& x, const SelfAttention& attention, CachedTokens tokens,
                           const AttentionOptions& options, const TensorView& out);

}  // namespace attnlib
