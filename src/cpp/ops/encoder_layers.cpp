#include "attnlib/encoder_layers.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "attnlib/attention.hpp"
#include "ops/layer_shares.hpp"
#include "ops/product.hpp"

namespace attnlib {
namespace {

// What a layer does one after the other; after each phase threads wait for each other.
constexpr std::int64_t phases_per_layer = 7;

enum Place : std::size_t { mixed_place, attended_place, middle_place, normalized_place, inner_place };

class EncoderRun {
 public:
  EncoderRun(const TensorView& x, std::span<const EncoderLayer> layers, std::span<const std::int64_t> cu_seqlens,
             bool causal, const TensorView& out)
      : x_(x),
        layers_(layers),
        cu_seqlens_(cu_seqlens),
        out_(out),
        width_(x.shape[1]),
        matrices_(x.shape[0], x.dtype, {3 * width_, width_, width_, width_, widest(layers)}),
        middle_(matrices_.matrix(middle_place, width_)),
        normalized_(matrices_.matrix(normalized_place, width_)) {
    options_.causal = causal;
  }

  // A member's share of a phase of layer phase / phases_per_layer.
  void run(std::int64_t phase, Member member) const {
    const EncoderLayer& layer = layers_[static_cast<std::size_t>(phase / phases_per_layer)];
    const TensorView& in = phase < phases_per_layer ? x_ : out_;
    const bool first = layer.norm_first;
    const TensorView mixed = matrices_.matrix(mixed_place, 3 * width_);
    const TensorView attended = matrices_.matrix(attended_place, width_);
    const TensorView inner = matrices_.matrix(inner_place, layer.linear1->out_features());
    const auto multiply = [&](const TensorView& from, const PackedWeight& weight, const LinearOptions& options,
                              const TensorView& to) { multiply_share(from, weight, options, to, member); };
    const auto normalise = [&](const NormParts& norm, const TensorView& from, const TensorView& to) {
      normalise_share(from, norm, to, member);
    };
    switch (phase % phases_per_layer - (first ? 1 : 0)) {
      case -1:
        return normalise(layer.norm1, in, normalized_);
      case 0:
        return multiply(first ? normalized_ : in, *layer.in_proj, {.bias = layer.in_bias}, mixed);
      case 1:
        return attend(layer.heads, member);
      case 2:
        return multiply(attended, *layer.out_proj, {.bias = layer.out_bias, .residual = &in}, middle_);
      case 3:
        return first ? normalise(layer.norm2, middle_, normalized_) : normalise(layer.norm1, middle_, middle_);
      case 4:
        return multiply(first ? normalized_ : middle_, *layer.linear1,
                        {.bias = layer.linear1_bias, .activation = layer.activation}, inner);
      case 5:
        return multiply(inner, *layer.linear2, {.bias = layer.linear2_bias, .residual = &middle_}, out_);
      default:
        return normalise(layer.norm2, out_, out_);
    }
  }

 private:
  static std::int64_t widest(std::span<const EncoderLayer> layers) {
    std::int64_t widest = 0;
    for (const EncoderLayer& layer : layers) widest = std::max(widest, layer.linear1->out_features());
    return widest;
  }

  // Members share the heads.
  void attend(std::int64_t heads, Member member) const {
    const auto [head, count] = member.share(heads);
    if (count == 0) return;
    const TensorView mixed = matrices_.heads(mixed_place, 3 * heads, width_ / heads);
    const TensorView attended = matrices_.heads(attended_place, heads, width_ / heads);
    attention_varlen(part_of(mixed, 1, head, count), part_of(mixed, 1, heads + head, count),
                     part_of(mixed, 1, 2 * heads + head, count), cu_seqlens_, cu_seqlens_, options_,
                     {.out = part_of(attended, 1, head, count)});
  }

  const TensorView& x_;
  std::span<const EncoderLayer> layers_;
  std::span<const std::int64_t> cu_seqlens_;
  const TensorView& out_;
  AttentionOptions options_;
  std::int64_t width_;
  TokenMatrices matrices_;
  TensorView middle_, normalized_;
};

}  // namespace

void check_encoder_layers(const TensorView& x, std::span<const EncoderLayer> layers,
                          std::span<const std::int64_t> cu_seqlens) {
  const std::string operation = "encoder_layers";
  if (layers.empty()) throw std::invalid_argument(operation + ": layers must not be empty");
  if (x.rank() != 2) throw std::invalid_argument(operation + ": x must be (T, E), got shape " + x.shape.to_string());
  check_offsets(operation.c_str(), cu_seqlens, x.shape[0], "cu_seqlens", "T");
  const std::int64_t width = x.shape[1];
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const EncoderLayer& layer = layers[i];
    const LayerCheck check{operation + ": layers[" + std::to_string(i) + "]"};
    check.heads(layer.heads, width);
    const std::int64_t inner = layer.linear1->out_features();
    check.weight("in_proj", *layer.in_proj, 3 * width, width);
    check.weight("out_proj", *layer.out_proj, width, width);
    check.weight("linear1", *layer.linear1, inner, width);
    check.weight("linear2", *layer.linear2, width, inner);
    check.bias("in_bias", layer.in_bias, 3 * width);
    check.bias("out_bias", layer.out_bias, width);
    check.bias("linear1_bias", layer.linear1_bias, inner);
    check.bias("linear2_bias", layer.linear2_bias, width);
    check.norm("norm1", x, layer.norm1);
    check.norm("norm2", x, layer.norm2);
  }
}

void encoder_layers(const TensorView& x, std::span<const EncoderLayer> layers, std::span<const std::int64_t> cu_seqlens,
                    bool causal, const TensorView& out) {
  if (x.size() == 0) return;
  // Each product alone is over before a thread that sleeps could come: they are called once for all layers.
  double nanoseconds = 0;
  for (const EncoderLayer& layer : layers)
    for (const PackedWeight* weight : {layer.in_proj, layer.out_proj, layer.linear1, layer.linear2})
      nanoseconds += product_nanoseconds(x.shape[0], *weight);
  const EncoderRun run(x, layers, cu_seqlens, causal, out);
  const auto count = static_cast<std::int64_t>(layers.size());
  parallel_phases(
      count * phases_per_layer, threads_for(nanoseconds / static_cast<double>(count)),
      [&](std::int64_t phase, std::int64_t member, std::int64_t members) { run.run(phase, {member, members}); });
}

}  // namespace attnlib
