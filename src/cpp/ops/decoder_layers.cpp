#include "attnlib/decoder_layers.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "ops/layer_shares.hpp"
#include "ops/product.hpp"

namespace attnlib {
namespace {

// What a layer does one after the other; after each phase threads wait for each other.
constexpr std::int64_t phases_per_layer = 11;

// Queries of cross-attention are where those of self-attention were, sums by turns in two places.
enum Place : std::size_t {
  mixed_place,
  attended_place,
  first_sum_place,
  second_sum_place,
  normalized_place,
  inner_place
};

class DecoderRun {
 public:
  DecoderRun(const TensorView& x, std::span<const DecoderLayer> layers, std::span<const DecoderLayerPast> pasts,
             const TensorView& out)
      : x_(as_rows(x)),
        out_(as_rows(out)),
        layers_(layers),
        pasts_(pasts),
        batch_(x.shape[0]),
        width_(x.shape[2]),
        matrices_(x_.shape[0], x.dtype, {3 * width_, width_, width_, width_, width_, widest(layers)}),
        first_sum_(matrices_.matrix(first_sum_place, width_)),
        second_sum_(matrices_.matrix(second_sum_place, width_)),
        normalized_(matrices_.matrix(normalized_place, width_)) {}

  // A member's share of a phase of layer phase / phases_per_layer.
  void run(std::int64_t phase, Member member) const {
    const auto index = static_cast<std::size_t>(phase / phases_per_layer);
    const DecoderLayer& layer = layers_[index];
    const TensorView& in = index == 0 ? x_ : out_;
    const bool first = layer.norm_first;
    const TensorView mixed = matrices_.matrix(mixed_place, 3 * width_), query = matrices_.matrix(mixed_place, width_);
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
        return attend_to_past(layer.heads, pasts_[index], member);
      case 2:
        return multiply(attended, *layer.out_proj, {.bias = layer.out_bias, .residual = &in}, first_sum_);
      case 3:
        return first ? normalise(layer.norm2, first_sum_, normalized_) : normalise(layer.norm1, first_sum_, first_sum_);
      case 4:
        return multiply(first ? normalized_ : first_sum_, *layer.query_proj, {.bias = layer.query_bias}, query);
      case 5:
        return attend_to_memory(layer.heads, pasts_[index], member);
      case 6:
        return multiply(attended, *layer.memory_out_proj, {.bias = layer.memory_out_bias, .residual = &first_sum_},
                        second_sum_);
      case 7:
        return first ? normalise(layer.norm3, second_sum_, normalized_)
                     : normalise(layer.norm2, second_sum_, second_sum_);
      case 8:
        return multiply(first ? normalized_ : second_sum_, *layer.linear1,
                        {.bias = layer.linear1_bias, .activation = layer.activation}, inner);
      case 9:
        return multiply(inner, *layer.linear2, {.bias = layer.linear2_bias, .residual = &second_sum_}, out_);
      default:
        return normalise(layer.norm3, out_, out_);
    }
  }

 private:
  static TensorView as_rows(const TensorView& x) {
    return contiguous_view(x.data, {x.shape[0] * x.shape[1], x.shape[2]}, x.dtype);
  }

  static std::int64_t widest(std::span<const DecoderLayer> layers) {
    std::int64_t widest = 0;
    for (const DecoderLayer& layer : layers) widest = std::max(widest, layer.linear1->out_features());
    return widest;
  }

  // Heads first..first + count - 1 of `all` heads of each token, as (B, count, S, D).
  TensorView heads_of(Place place, std::int64_t all, std::int64_t size, std::int64_t first, std::int64_t count) const {
    const TensorView heads = part_of(matrices_.heads(place, all, size), 1, first, count);
    const std::int64_t new_tokens = heads.shape[0] / batch_;
    TensorView view = heads;
    view.shape = {batch_, count, new_tokens, size};
    view.strides = {new_tokens * heads.strides[0], heads.strides[1], heads.strides[0], 1};
    return view;
  }

  // Members share the heads.
  void attend_to_past(std::int64_t heads, const DecoderLayerPast& past, Member member) const {
    const auto [head, count] = member.share(heads);
    if (count == 0) return;
    const auto some = [&, head = head, count = count](std::int64_t before) {
      return heads_of(mixed_place, 3 * heads, width_ / heads, before + head, count);
    };
    AttentionOptions options;
    options.causal = true;
    cached_attention({.query = some(0),
                      .key = some(heads),
                      .value = some(2 * heads),
                      .key_cache = part_of(past.key_cache, 1, head, count),
                      .value_cache = part_of(past.value_cache, 1, head, count),
                      .lengths = past.lengths},
                     options, heads_of(attended_place, heads, width_ / heads, head, count));
  }

  void attend_to_memory(std::int64_t heads, const DecoderLayerPast& past, Member member) const {
    const auto [head, count] = member.share(heads);
    if (count == 0) return;
    AttentionOptions options;
    options.key_lengths = &past.memory_lengths;
    attention(heads_of(mixed_place, heads, width_ / heads, head, count), part_of(past.key, 1, head, count),
              part_of(past.value, 1, head, count), options,
              {.out = heads_of(attended_place, heads, width_ / heads, head, count)});
  }

  TensorView x_, out_;
  std::span<const DecoderLayer> layers_;
  std::span<const DecoderLayerPast> pasts_;
  std::int64_t batch_, width_;
  TokenMatrices matrices_;
  TensorView first_sum_, second_sum_, normalized_;
};

void check_past(const LayerCheck& check, const DecoderLayerPast& past, const TensorView& x, std::int64_t heads) {
  const std::int64_t batch = x.shape[0], new_tokens = x.shape[1], size = x.shape[2] / heads;
  const auto four_axes = [&](const char* name, const TensorView& view) {
    if (view.rank() != 4)
      throw std::invalid_argument(check.context + ": " + name + " must have four axes, got shape " +
                                  view.shape.to_string());
  };
  four_axes("key_cache", past.key_cache);
  four_axes("key", past.key);
  const std::int64_t capacity = past.key_cache.shape[2], places = past.key.shape[2];
  check.shape("key_cache", past.key_cache.shape, {batch, heads, capacity, size});
  check.shape("value_cache", past.value_cache.shape, {batch, heads, capacity, size});
  check.shape("lengths", past.lengths.shape, {batch});
  const std::int64_t readers = past.key.shape[0] == 1 ? 1 : batch;
  check.shape("key", past.key.shape, {readers, heads, places, size});
  check.shape("value", past.value.shape, {readers, heads, places, size});
  check.shape("memory_lengths", past.memory_lengths.shape, {readers});
  const auto within = [&](const char* name, const IntegerView& lengths, std::int64_t most, const char* of_what) {
    for (std::int64_t b = 0; b < lengths.shape[0]; ++b)
      if (lengths.data[b] < 0 || lengths.data[b] > most)
        throw std::invalid_argument(check.context + ": " + name + " must lie between 0 and " + std::to_string(most) +
                                    ", " + of_what + ", got " + std::to_string(lengths.data[b]));
  };
  if (batch > 0 && capacity < new_tokens)
    throw std::invalid_argument(check.context + ": key_cache must have room for " + std::to_string(new_tokens) +
                                " new tokens, got a capacity of " + std::to_string(capacity));
  within("lengths", past.lengths, capacity - new_tokens, "the capacity less the new tokens");
  within("memory_lengths", past.memory_lengths, places, "the places of the memory");
}

}  // namespace

void check_decoder_layers(const TensorView& x, std::span<const DecoderLayer> layers,
                          std::span<const DecoderLayerPast> pasts) {
  const std::string operation = "decoder_layers";
  if (layers.empty()) throw std::invalid_argument(operation + ": layers must not be empty");
  if (pasts.size() != layers.size())
    throw std::invalid_argument(operation + ": pasts must be one for each of the " + std::to_string(layers.size()) +
                                " layers, got " + std::to_string(pasts.size()));
  if (x.rank() != 3) throw std::invalid_argument(operation + ": x must be (B, S, E), got shape " + x.shape.to_string());
  const std::int64_t width = x.shape[2];
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const DecoderLayer& layer = layers[i];
    const LayerCheck check{operation + ": layers[" + std::to_string(i) + "]"};
    check.heads(layer.heads, width);
    const std::int64_t inner = layer.linear1->out_features();
    check.weight("in_proj", *layer.in_proj, 3 * width, width);
    check.weight("out_proj", *layer.out_proj, width, width);
    check.weight("query_proj", *layer.query_proj, width, width);
    check.weight("memory_out_proj", *layer.memory_out_proj, width, width);
    check.weight("linear1", *layer.linear1, inner, width);
    check.weight("linear2", *layer.linear2, width, inner);
    check.bias("in_bias", layer.in_bias, 3 * width);
    check.bias("out_bias", layer.out_bias, width);
    check.bias("query_bias", layer.query_bias, width);
    check.bias("memory_out_bias", layer.memory_out_bias, width);
    check.bias("linear1_bias", layer.linear1_bias, inner);
    check.bias("linear2_bias", layer.linear2_bias, width);
    check.norm("norm1", x, layer.norm1);
    check.norm("norm2", x, layer.norm2);
    check.norm("norm3", x, layer.norm3);
    check_past({operation + ": pasts[" + std::to_string(i) + "]"}, pasts[i], x, layer.heads);
  }
}

void decoder_layers(const TensorView& x, std::span<const DecoderLayer> layers, std::span<const DecoderLayerPast> pasts,
                    const TensorView& out) {
  if (x.size() == 0) return;
  // As for encoder_layers: threads that the layers of one token are worth together.
  double nanoseconds = 0;
  for (const DecoderLayer& layer : layers)
    for (const PackedWeight* weight :
         {layer.in_proj, layer.out_proj, layer.query_proj, layer.memory_out_proj, layer.linear1, layer.linear2})
      nanoseconds += product_nanoseconds(x.shape[0] * x.shape[1], *weight);
  const DecoderRun run(x, layers, pasts, out);
  const auto count = static_cast<std::int64_t>(layers.size());
  parallel_phases(
      count * phases_per_layer, threads_for(nanoseconds / static_cast<double>(count)),
      [&](std::int64_t phase, std::int64_t member, std::int64_t members) { run.run(phase, {member, members}); });
}

}  // namespace attnlib
