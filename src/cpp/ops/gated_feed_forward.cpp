#include "attnlib/gated_feed_forward.hpp"

#include <stdexcept>
#include <string>

#include "attnlib/activation.hpp"
#include "attnlib/normalization.hpp"
#include "ops/product.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

// Columns first..first + count - 1.
TensorView columns(TensorView view, std::int64_t first, std::int64_t count) {
  view.data = view.at(first * view.strides.from_end(1));
  view.shape[view.rank() - 1] = count;
  return view;
}

}  // namespace

void check_gated_feed_forward(const TensorView& x, const GatedFeedForward& network) {
  const auto check = [](const char* name, const Shape& found, const Shape& wanted) {
    if (!(found == wanted))
      throw std::invalid_argument(std::string("gated_feed_forward: ") + name + " must be " + wanted.to_string() +
                                  ", got shape " + found.to_string());
  };
  const auto shape_of = [](const PackedWeight& weight) { return Shape{weight.out_features(), weight.in_features()}; };
  if (x.rank() == 0) throw std::invalid_argument("gated_feed_forward: x must have at least one axis, got shape ()");
  const std::int64_t width = x.shape.from_end(1), inner = network.down->in_features();
  if (network.norm_weight != nullptr) check("norm_weight", network.norm_weight->shape, {width});
  check("down", shape_of(*network.down), {width, inner});
  check("gate_up", shape_of(*network.gate_up), {2 * inner, width});
  check_normalization("gated_feed_forward", x, network.norm_weight, nullptr, network.eps, nullptr);
}

void gated_feed_forward(const TensorView& x, const GatedFeedForward& network, const TensorView& out) {
  const std::int64_t width = x.shape.from_end(1), inner = network.down->in_features();
  if (x.size() == 0) return;
  const std::int64_t rows = x.size() / width, size = dtype_size(x.dtype);
  // For a token the weights only have to be read, and each alone is hardly worth a thread that would have to be woken;
  // for both it is woken once.
  const double nanoseconds = product_nanoseconds(rows, *network.gate_up) + product_nanoseconds(rows, *network.down);
  const int threads = threads_for(nanoseconds);
  const Scratch normalized_memory(rows * width * size), both_memory(rows * 2 * inner * size);
  const TensorView normalized = contiguous_view(normalized_memory.as<void>(), x.shape, x.dtype);
  Shape wide = x.shape;
  wide[x.rank() - 1] = 2 * inner;
  const TensorView both = contiguous_view(both_memory.as<void>(), wide, x.dtype);
  rms_norm(x, network.norm_weight, network.eps, nullptr, normalized);
  linear(normalized, *network.gate_up, {.threads = threads}, both);
  const TensorView gate = columns(both, 0, inner);
  swiglu(gate, columns(both, inner, inner), gate);
  linear(gate, *network.down, {.residual = &x, .threads = threads}, out);
}

}  // namespace attnlib
