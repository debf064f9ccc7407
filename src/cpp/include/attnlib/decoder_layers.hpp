// A stack of decoder layers (Vaswani et al., 2017) over few new tokens, in one call whose threads stay together.
#pragma once

#include <cstdint>
#include <span>

#include "attnlib/attention.hpp"
#include "attnlib/matmul.hpp"
#include "attnlib/normalization.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

// Letters: B sequences, S new tokens of each, Sm places of the memory, E features, H heads of size D = E / H, F inner
// features of the feed-forward network. Biases may be none; they, norms and weights as for `linear` and `layer_norm`.
struct DecoderLayer {
  const PackedWeight* in_proj;          // (3 E, E): of queries, keys, values of self-attention
  const PackedWeight* out_proj;         // (E, E)
  const PackedWeight* query_proj;       // (E, E): of the queries of cross-attention
  const PackedWeight* memory_out_proj;  // (E, E)
  const PackedWeight* linear1;          // (F, E)
  const PackedWeight* linear2;          // (E, F)
  const TensorView *in_bias = nullptr, *out_bias = nullptr, *query_bias = nullptr, *memory_out_bias = nullptr;
  const TensorView *linear1_bias = nullptr, *linear2_bias = nullptr;
  NormParts norm1, norm2, norm3;
  std::int64_t heads;
  Activation activation;
  bool norm_first;  // norms before attention and network, instead of after their sums
};

// What a layer has read and computed before: contiguous along the last axis, of the dtype of x.
struct DecoderLayerPast {
  TensorView key_cache, value_cache;  // (B, H, capacity, D): of earlier tokens, with room for the new ones
  IntegerView lengths;                // (B,): tokens that they hold
  TensorView key, value;              // (B or 1, H, Sm, D): of the memory
  IntegerView memory_lengths;         // (B or 1,): places of it that are valid
};

// std::invalid_argument unless x, (B, S, E), the layers and their pasts go with each other; beginning with
// "decoder_layers: layers[i]" or "decoder_layers: pasts[i]" for layer i.
void check_decoder_layers(const TensorView& x, std::span<const DecoderLayer> layers,
                          std::span<const DecoderLayerPast> pasts);

// out = x through all layers. Each token attends to those before it, whose keys and values the caches hold, and to the
// memory; the new keys and values are written behind those that the caches hold. x and out are contiguous; out has x's
// shape and shares no memory with the others. The same bits as layer_norm, linear, cached_attention and attention one
// by one. Whatever fails leaves the tokens that the caches hold as they were.
void decoder_layers(const TensorView& x, std::span<const DecoderLayer> layers, std::span<const DecoderLayerPast> pasts,
                    const TensorView& out);

}  // namespace attnlib
