// What happens to the scores of one tile and one block of keys between the two products: soft cap, bias, ALiBi,
// removal, and the online softmax.
#pragma once

#include "kernels/attention_tile.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// Soft cap, bias, ALiBi and removal, on the scores of `count` keys from key `first` on, in place. Returns the keys from
// the first to the last that some row of the tile still sees, counted from `first`.
template <class T, class C = compute_type<T>>
KeyRange modify_scores(const AttentionTask& task, const Tile<C>& tile, std::int64_t first, int count,
                       const Workspace<C>& workspace) {
  using Integer = lane_integer<C>;
  const C infinity = static_cast<C>(__builtin_inf());
  if (task.bias != nullptr) {
    const T* bias = static_cast<const T*>(task.bias) + first * task.bias_key_stride;
    gather_transposed<C>(
        tile.rows, count, workspace.bias,
        [&](int row) __attribute__((always_inline)) {
          return bias + row_offset(tile, row, task.bias_head_stride, task.bias_query_stride);
        },
        [&](const T* row, std::int64_t j, int left) __attribute__((always_inline)) {
          if (task.bias_key_stride == 1) return left == lanes<C> ? load(row + j) : load_partial(row + j, left);
          T entries[lanes<C>] = {};
          for (int i = 0; i < left; ++i) entries[i] = row[(j + i) * task.bias_key_stride];
          return load(entries);
        });
  }
  if (task.mask != nullptr) {
    const bool* mask = task.mask + first * task.mask_key_stride;
    gather_transposed<C>(
        tile.rows, count, workspace.mask,
        [&](int row) __attribute__((always_inline)) {
          return mask + row_offset(tile, row, task.mask_head_stride, task.mask_query_stride);
        },
        [&](const bool* row, std::int64_t j, int left) __attribute__((always_inline)) {
          mask_vec<C> entries{};
          for (int i = 0; i < left; ++i) entries[i] = row[(j + i) * task.mask_key_stride] ? -1 : 0;
          return bit_cast<vec<C>>(entries);
        });
  }

  mask_vec<C> low[tile_vectors], high[tile_vectors];
  vec<C> slope[tile_vectors], position[tile_vectors];
  for (int row = 0; row < tile_rows<C>; ++row) {
    const auto clamped = [&](std::int64_t key) {
      const std::int64_t relative = key - first;
      return static_cast<Integer>(relative < 0 ? 0 : relative > count ? count : relative);
    };
    low[row / lanes<C>][row % lanes<C>] = clamped(tile.low[row]);
    high[row / lanes<C>][row % lanes<C>] = clamped(tile.high[row]);
    if (task.slopes == nullptr) continue;
    slope[row / lanes<C>][row % lanes<C>] =
        static_cast<const C*>(task.slopes)[tile.head_of[row]] * static_cast<C>(log2_e);
    position[row / lanes<C>][row % lanes<C>] = static_cast<C>(task.query_offset + tile.query_of[row] - first);
  }

  KeyRange range{count, 0, 0, true};
  for (int key = 0; key < count; ++key) {
    mask_vec<C> seen_by_any{};
#pragma GCC unroll 2
    for (int v = 0; v < tile_vectors; ++v) {
      C* place = workspace.scores + key * tile_rows<C> + v * lanes<C>;
      vec<C> score = load(place);
      const mask_vec<C> index = broadcast_integer<C>(static_cast<Integer>(key));
      mask_vec<C> seen = (index >= low[v]) & (index < high[v]);
      if (task.softcap != 0.0) score = tanh(score) * broadcast<C>(static_cast<C>(task.softcap * log2_e));
      if (task.bias != nullptr) {
        const vec<C> bias = load(workspace.bias + key * tile_rows<C> + v * lanes<C>);
        score = fma(bias, broadcast<C>(static_cast<C>(log2_e)), score);
        seen = seen & (bias != broadcast<C>(-infinity));
      }
      if (task.slopes != nullptr) score = score - slope[v] * abs<C>(position[v] - broadcast<C>(static_cast<C>(key)));
      if (task.mask != nullptr)
        seen = seen & bit_cast<mask_vec<C>>(load(workspace.mask + key * tile_rows<C> + v * lanes<C>));
      store(place, seen ? score : broadcast<C>(-infinity));
      seen_by_any = seen_by_any | seen;
    }
    if (!any<C>(seen_by_any)) continue;
    if (range.first > key) range.first = key;
    range.last = key + 1;
  }
  return range;
}

// scores -> weights, in place: new maximum, 2^(S - maximum), running sum; `correction` is what older sums are worth.
template <class C>
void exponentiate(C* scores, int count, const Tile<C>& tile, vec<C>* correction) {
  const vec<C> nothing = broadcast<C>(-static_cast<C>(__builtin_inf()));
#pragma GCC unroll 2
  for (int v = 0; v < tile_vectors; ++v) {
    C* column = scores + v * lanes<C>;
    const vec<C> old = load(tile.maximum + v * lanes<C>);
    vec<C> even = old, odd = old;
    int key = 0;
    for (; key + 1 < count; key += 2) {
      even = max(even, load(column + key * tile_rows<C>));
      odd = max(odd, load(column + (key + 1) * tile_rows<C>));
    }
    if (key < count) even = max(even, load(column + key * tile_rows<C>));
    const vec<C> maximum = max(even, odd);
    store(tile.maximum + v * lanes<C>, maximum);
    // A row that has seen nothing yet: -inf - -inf would be NaN.
    const vec<C> reference = maximum == nothing ? zero<C>() : maximum;
    correction[v] = exp2_nonpositive(old - reference);
    vec<C> sum = zero<C>();
#pragma GCC unroll 4
    for (key = 0; key < count; ++key) {
      const vec<C> weight = exp2_nonpositive(load(column + key * tile_rows<C>) - reference);
      store(column + key * tile_rows<C>, weight);
      sum = sum + weight;
    }
    store(tile.sum + v * lanes<C>, fma(load(tile.sum + v * lanes<C>), correction[v], sum));
  }
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
