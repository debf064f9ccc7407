#include "attnlib/cached_self_attention.hpp"

#include <stdexcept>
#include <string>
#include <utility>

#include "attnlib/normalization.hpp"
#include "ops/product.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

constexpr const char* operation = "cached_self_attention";

void check_shape(const char* name, const Shape& found, const Shape& wanted) {
  if (!(found == wanted))
    throw std::invalid_argument(std::string(operation) + ": " + name + " must be " + wanted.to_string() +
                                ", got shape " + found.to_string());
}

Shape shape_of(const PackedWeight& weight) { return {weight.out_features(), weight.in_features()}; }

// Heads first..first + count - 1 of (B, S, heads, D), as (B, count, S, D).
TensorView heads_of(const TensorView& mixed, std::int64_t first, std::int64_t count) {
  TensorView view = mixed;
  view.data = mixed.at(first * mixed.strides[2]);
  view.shape[2] = count;
  std::swap(view.shape[1], view.shape[2]);
  std::swap(view.strides[1], view.strides[2]);
  return view;
}

}  // namespace

void check_self_attention(const TensorView& x, const SelfAttention& attention) {
  if (x.rank() != 3)
    throw std::invalid_argument(std::string(operation) + ": x must be (B, S, d), got shape " + x.shape.to_string());
  if (attention.norm_weight != nullptr) check_shape("norm_weight", attention.norm_weight->shape, {x.shape[2]});
  check_normalization(operation, x, attention.norm_weight, nullptr, attention.eps, nullptr);
  const std::int64_t heads = attention.heads, groups = attention.groups;
  if (heads < 1 || groups < 1 || heads % groups != 0)
    throw std::invalid_argument(std::string(operation) + ": heads must be a multiple of groups, got " +
                                std::to_string(heads) + " and " + std::to_string(groups));
  const std::int64_t width = x.shape[2], all = heads + 2 * groups;
  const Shape in_proj = shape_of(*attention.in_proj);
  if (in_proj[0] % all != 0)
    throw std::invalid_argument(std::string(operation) + ": in_proj must have rows for " + std::to_string(all) +
                                " heads, got shape " + in_proj.to_string());
  const std::int64_t size = in_proj[0] / all;
  check_shape("in_proj", in_proj, {all * size, width});
  check_shape("out_proj", shape_of(*attention.out_proj), {width, heads * size});
  if (attention.in_bias != nullptr) check_shape("in_bias", attention.in_bias->shape, {all * size});
  if (attention.out_bias != nullptr) check_shape("out_bias", attention.out_bias->shape, {width});
  if (attention.query_norm != nullptr) check_shape("query_norm", attention.query_norm->shape, {size});
  if (attention.key_norm != nullptr) check_shape("key_norm", attention.key_norm->shape, {size});
}

void cached_self_attention(const TensorView& x, const SelfAttention& attention, CachedTokens tokens,
                           const AttentionOptions& options, const TensorView& out) {
  const std::int64_t batch = x.shape[0], count = x.shape[1], width = x.shape[2];
  const std::int64_t heads = attention.heads, groups = attention.groups, all = heads + 2 * groups;
  const std::int64_t size = attention.in_proj->out_features() / all, rows = batch * count;
  if (rows == 0) return;
  // As for gated_feed_forward: threads that both products are worth.
  const int threads =
      threads_for(product_nanoseconds(rows, *attention.in_proj) + product_nanoseconds(rows, *attention.out_proj));
  const std::int64_t bytes = rows * dtype_size(x.dtype);
  const Scratch normalized_memory(bytes * width), mixed_memory(bytes * all * size);
  const Scratch attended_memory(bytes * heads * size);
  const TensorView normalized = contiguous_view(normalized_memory.as<void>(), x.shape, x.dtype);
  rms_norm(x, attention.norm_weight, attention.eps, nullptr, normalized);
  linear(normalized, *attention.in_proj, {.bias = attention.in_bias, .threads = threads},
         contiguous_view(mixed_memory.as<void>(), {batch, count, all * size}, x.dtype));

  const TensorView mixed = contiguous_view(mixed_memory.as<void>(), {batch, count, all, size}, x.dtype);
  tokens.query = heads_of(mixed, 0, heads);
  tokens.key = heads_of(mixed, heads, groups);
  tokens.value = heads_of(mixed, heads + groups, groups);
  if (attention.query_norm != nullptr)
    rms_norm(tokens.query, attention.query_norm, attention.eps, nullptr, tokens.query);
  if (attention.key_norm != nullptr) rms_norm(tokens.key, attention.key_norm, attention.eps, nullptr, tokens.key);
  const TensorView attended = contiguous_view(attended_memory.as<void>(), {batch, count, heads, size}, x.dtype);
  cached_attention(tokens, options, heads_of(attended, 0, heads));
  linear(contiguous_view(attended_memory.as<void>(), {batch, count, heads * size}, x.dtype), *attention.out_proj,
         {.bias = attention.out_bias, .residual = &x, .threads = threads}, out);
}

}  // namespace attnlib
