#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "attnlib/attention.hpp"
#include "attnlib/rotary.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument("cached_attention: " + message); }

void check(const CachedTokens& tokens) {
  const Shape &query = tokens.query.shape, &key = tokens.key.shape, &value = tokens.value.shape;
  const std::string found = ", got query " + query.to_string() + ", key " + key.to_string() + ", value " +
                            value.to_string() + ", key_cache " + tokens.key_cache.shape.to_string() + ", value_cache " +
                            tokens.value_cache.shape.to_string() + ", lengths " + tokens.lengths.shape.to_string();
  if (query.rank() != 4 || key.rank() != 4 || value.rank() != 4 || query[0] != key[0] || query[2] != key[2] ||
      query[3] != key[3] || !(key.first(3) == value.first(3)) || (key[1] == 0 ? query[1] != 0 : query[1] % key[1] != 0))
    fail("query, key and value must be (B, H, S, D), (B, G, S, D) and (B, G, S, Dv), H a multiple of G" + found);
  const Shape &keys = tokens.key_cache.shape, &values = tokens.value_cache.shape;
  if (keys.rank() != 4 || !(keys == Shape{key[0], key[1], keys[2], key[3]}) ||
      !(values == Shape{key[0], key[1], keys[2], value[3]}))
    fail("key_cache and value_cache must be (B, G, capacity, D) and (B, G, capacity, Dv)" + found);
  if (!(tokens.lengths.shape == Shape{key[0]})) fail("lengths must be (B,)" + found);
  for (std::int64_t b = 0; b < key[0]; ++b)
    if (tokens.lengths.data[b] < 0 || tokens.lengths.data[b] > keys[2] - key[2])
      fail("lengths must leave room for the new tokens, got " + std::to_string(tokens.lengths.data[b]) + " and " +
           std::to_string(key[2]) + " more in a capacity of " + std::to_string(keys[2]));
}

// Sequence b of an array (B, ...), which keeps its axes.
TensorView entry(TensorView view, std::int64_t b) {
  view.data = view.at(b * view.strides[0]);
  view.shape[0] = 1;
  return view;
}

// What sequence b takes of a table: (max_position, R / 2), or its own rows of (B, S, R / 2).
TensorView own_table(const TensorView& table, std::int64_t b) {
  return table.rank() == 3 && table.shape[0] != 1 ? entry(table, b) : table;
}

// Places first..first + count - 1 of the third axis.
TensorView places(TensorView view, std::int64_t first, std::int64_t count) {
  view.data = view.at(first * view.strides[2]);
  view.shape[2] = count;
  return view;
}

void copy_rows(const TensorView& source, const TensorView& target) {
  const auto bytes = static_cast<std::size_t>(source.shape[3] * dtype_size(source.dtype));
  if (bytes == 0) return;
  for (std::int64_t g = 0; g < source.shape[1]; ++g)
    for (std::int64_t s = 0; s < source.shape[2]; ++s)
      std::memcpy(target.at(g * target.strides[1] + s * target.strides[2]),
                  source.at(g * source.strides[1] + s * source.strides[2]), bytes);
}

}  // namespace

void cached_attention(const CachedTokens& tokens, const AttentionOptions& given, const TensorView& out) {
  check(tokens);
  const std::int64_t batch = tokens.key.shape[0], count = tokens.key.shape[2];
  std::vector<std::int64_t> valid(static_cast<std::size_t>(batch));
  std::vector<std::int64_t> following(static_cast<std::size_t>(tokens.cos == nullptr ? 0 : batch * count));
  std::int64_t longest = 0;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t length = tokens.lengths.data[b];
    valid[static_cast<std::size_t>(b)] = length + count;
    longest = std::max(longest, length + count);
  }

  TensorView query = tokens.query;
  std::optional<Scratch> turned;
  if (tokens.cos != nullptr) {
    // Rows of the tables that are picked already, (B, S, R / 2), need no positions.
    const bool picked = tokens.cos->rank() == 3;
    IntegerView positions;
    if (tokens.positions != nullptr) {
      positions = *tokens.positions;
    } else if (!picked) {
      for (std::int64_t i = 0; i < batch * count; ++i)
        following[static_cast<std::size_t>(i)] = tokens.lengths.data[i / count] + i % count;
      positions.data = following.data();
      positions.shape = {batch, count};
    }
    turned.emplace(query.size() * dtype_size(query.dtype));
    query = contiguous_view(turned->as<void>(), query.shape, query.dtype);
    const IntegerView* picks = picked && tokens.positions == nullptr ? nullptr : &positions;
    rotary_embedding(tokens.query, *tokens.cos, *tokens.sin, picks, false, query);
    for (std::int64_t b = 0; b < batch; ++b) {
      const bool one_for_all = positions.rank() != 2 || positions.shape[0] == 1;
      const IntegerView own{picks == nullptr ? nullptr : positions.data + (one_for_all ? 0 : b * count), {count}, {}};
      rotary_embedding(entry(tokens.key, b), own_table(*tokens.cos, b), own_table(*tokens.sin, b),
                       picks == nullptr ? nullptr : &own, false,
                       places(entry(tokens.key_cache, b), tokens.lengths.data[b], count));
    }
  }
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t length = tokens.lengths.data[b];
    if (tokens.cos == nullptr) copy_rows(entry(tokens.key, b), places(entry(tokens.key_cache, b), length, count));
    copy_rows(entry(tokens.value, b), places(entry(tokens.value_cache, b), length, count));
  }

  AttentionOptions options = given;
  const IntegerView lengths{valid.data(), {batch}, {1}};
  options.key_lengths = &lengths;
  attention(query, places(tokens.key_cache, 0, longest), places(tokens.value_cache, 0, longest), options, {out});
}

}  // namespace attnlib
