// A stack of encoder layers (Vaswani et al., 2017) over few tokens, in one call whose threads stay together.
#pragma once

#include <cstdint>
#include <span>

#include "attnlib/matmul.hpp"
#include "attnlib/normalization.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

// Letters: E features, H heads, F inner features of the feed-forward network. Biases may be none; they, norms and
// weights as for `linear` and `layer_norm`.
struct EncoderLayer {
  const PackedWeight* in_proj;   // (3 E, E): of queries, keys, values
  const PackedWeight* out_proj;  // (E, E)
  const PackedWeight* linear1;   // (F, E)
  const PackedWeight* linear2;   // (E, F)
  const TensorView *in_bias = nullptr, *out_bias = nullptr, *linear1_bias = nullptr, *linear2_bias = nullptr;
  NormParts norm1, norm2;
  std::int64_t heads;
  Activation activation;
  bool norm_first;  // norms before attention and network, instead of after their sums
};

// std::invalid_argument unless x, (T, E), the offsets and all layers go with each other; beginning with
// "encoder_layers: layers[i]" for layer i.
void check_encoder_layers(const TensorView& x, std::span<const EncoderLayer> layers,
                          std::span<const std::int64_t> cu_seqlens);

// out = x through all layers; x holds sequences packed end to end as for attention_varlen, each attending to itself, or
// with `causal` each token to those up to itself. out has x's shape and shares no memory with the others. The same bits
// as layer_norm, linear and attention_varlen one by one.
void encoder_layers(const TensorView& x, std::span<const EncoderLayer> layers, std::span<const std::int64_t> cu_seqlens,
                    bool causal, const TensorView& out);

}  // namespace attnlib
