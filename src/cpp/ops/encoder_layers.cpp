#include "attnlib/encoder_layers.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "attnlib/attention.hpp"
#include "attnlib/normalization.hpp"
#include "ops/product.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

// What a layer does one after the other; after each phase threads wait for each other.
constexpr std::int64_t phases_per_layer = 7;

// Bytes rounded up to cache lines, in which matrices begin.
std::int64_t whole_lines(std::int64_t bytes) { return (bytes + 63) / 64 * 64; }

// `count` extents of an axis from `first` on.
TensorView part_of(TensorView view, int axis, std::int64_t first, std::int64_t count) {
  view.data = view.at(first * view.strides[axis]);
  view.shape[axis] = count;
  return view;
}

class EncoderRun {
 public:
  EncoderRun(const TensorView& x, std::span<const EncoderLayer> layers, std::span<const std::int64_t> cu_seqlens,
             bool causal, const TensorView& out)
      : x_(x),
        layers_(layers),
        cu_seqlens_(cu_seqlens),
        out_(out),
        tokens_(x.shape[0]),
        width_(x.shape[1]),
        bytes_(tokens_ * dtype_size(x.dtype)),
        inner_width_(widest(layers)),
        memory_(3 * whole_lines(bytes_ * width_) + whole_lines(bytes_ * 3 * width_) +
                whole_lines(bytes_ * inner_width_)) {
    options_.causal = causal;
    std::byte* memory = memory_.as<std::byte>();
    const auto take = [&](std::int64_t width) {
      std::byte* const here = memory;
      memory += whole_lines(bytes_ * width);
      return here;
    };
    mixed_ = take(3 * width_);
    attended_ = take(width_);
    middle_ = matrix(take(width_), width_);
    normalized_ = matrix(take(width_), width_);
    inner_ = take(inner_width_);
  }

  // A member's share of a phase of layer phase / phases_per_layer.
  void run(std::int64_t phase, std::int64_t member, std::int64_t members) const {
    const EncoderLayer& layer = layers_[static_cast<std::size_t>(phase / phases_per_layer)];
    const TensorView& in = phase < phases_per_layer ? x_ : out_;
    const bool first = layer.norm_first;
    const TensorView mixed = matrix(mixed_, 3 * width_), attended = matrix(attended_, width_);
    const TensorView inner = matrix(inner_, layer.linear1->out_features());
    const auto multiply = [&](const TensorView& from, const PackedWeight& weight, LinearOptions options,
                              const TensorView& to) {
      options.threads = 1;
      options.member = member;
      options.members = members;
      linear(from, weight, options, to);
    };
    const auto normalise = [&](const TensorView& from, const TensorView* weight, const TensorView* bias, double eps,
                               const TensorView& to) {
      const std::int64_t row = share_begin(tokens_, member, members);
      const std::int64_t count = share_begin(tokens_, member + 1, members) - row;
      if (count > 0) layer_norm(part_of(from, 0, row, count), weight, bias, eps, nullptr, part_of(to, 0, row, count));
    };
    const auto norm1 = [&](const TensorView& from, const TensorView& to) {
      normalise(from, layer.norm1_weight, layer.norm1_bias, layer.norm1_eps, to);
    };
    const auto norm2 = [&](const TensorView& from, const TensorView& to) {
      normalise(from, layer.norm2_weight, layer.norm2_bias, layer.norm2_eps, to);
    };
    switch (phase % phases_per_layer - (first ? 1 : 0)) {
      case -1:
        return norm1(in, normalized_);
      case 0:
        return multiply(first ? normalized_ : in, *layer.in_proj, {.bias = layer.in_bias}, mixed);
      case 1:
        return attend(layer.heads, member, members);
      case 2:
        return multiply(attended, *layer.out_proj, {.bias = layer.out_bias, .residual = &in}, middle_);
      case 3:
        return first ? norm2(middle_, normalized_) : norm1(middle_, middle_);
      case 4:
        return multiply(first ? normalized_ : middle_, *layer.linear1,
                        {.bias = layer.linear1_bias, .activation = layer.activation}, inner);
      case 5:
        return multiply(inner, *layer.linear2, {.bias = layer.linear2_bias, .residual = &middle_}, out_);
      default:
        return norm2(out_, out_);
    }
  }

 private:
  static std::int64_t widest(std::span<const EncoderLayer> layers) {
    std::int64_t widest = 0;
    for (const EncoderLayer& layer : layers) widest = std::max(widest, layer.linear1->out_features());
    return widest;
  }

  TensorView matrix(void* memory, std::int64_t width) const {
    return contiguous_view(memory, {tokens_, width}, x_.dtype);
  }

  // Members share the heads.
  void attend(std::int64_t heads, std::int64_t member, std::int64_t members) const {
    const std::int64_t head = share_begin(heads, member, members);
    const std::int64_t count = share_begin(heads, member + 1, members) - head;
    if (count == 0) return;
    const TensorView mixed = contiguous_view(mixed_, {tokens_, 3 * heads, width_ / heads}, x_.dtype);
    const TensorView attended = contiguous_view(attended_, {tokens_, heads, width_ / heads}, x_.dtype);
    attention_varlen(part_of(mixed, 1, head, count), part_of(mixed, 1, heads + head, count),
                     part_of(mixed, 1, 2 * heads + head, count), cu_seqlens_, cu_seqlens_, options_,
                     {.out = part_of(attended, 1, head, count)});
  }

  const TensorView& x_;
  std::span<const EncoderLayer> layers_;
  std::span<const std::int64_t> cu_seqlens_;
  const TensorView& out_;
  AttentionOptions options_;
  std::int64_t tokens_, width_, bytes_, inner_width_;
  Scratch memory_;
  void *mixed_, *attended_, *inner_;
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
    const std::string context = operation + ": layers[" + std::to_string(i) + "]";
    const auto check = [&](const char* name, const Shape& found, const Shape& wanted) {
      if (!(found == wanted))
        throw std::invalid_argument(context + ": " + name + " must be " + wanted.to_string() + ", got shape " +
                                    found.to_string());
    };
    const auto check_bias = [&](const char* name, const TensorView* bias, std::int64_t size) {
      if (bias != nullptr) check(name, bias->shape, {size});
    };
    if (layer.heads < 1 || width % layer.heads != 0)
      throw std::invalid_argument(context + ": heads must divide E = " + std::to_string(width) + ", got " +
                                  std::to_string(layer.heads));
    const auto shape_of = [](const PackedWeight& weight) { return Shape{weight.out_features(), weight.in_features()}; };
    const std::int64_t inner = layer.linear1->out_features();
    check("in_proj", shape_of(*layer.in_proj), {3 * width, width});
    check("out_proj", shape_of(*layer.out_proj), {width, width});
    check("linear1", shape_of(*layer.linear1), {inner, width});
    check("linear2", shape_of(*layer.linear2), {width, inner});
    check_bias("in_bias", layer.in_bias, 3 * width);
    check_bias("out_bias", layer.out_bias, width);
    check_bias("linear1_bias", layer.linear1_bias, inner);
    check_bias("linear2_bias", layer.linear2_bias, width);
    check_normalization(context + ": norm1", x, layer.norm1_weight, layer.norm1_bias, layer.norm1_eps, nullptr);
    check_normalization(context + ": norm2", x, layer.norm2_weight, layer.norm2_bias, layer.norm2_eps, nullptr);
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
      [&](std::int64_t phase, std::int64_t member, std::int64_t members) { run.run(phase, member, members); });
}

}  // namespace attnlib
