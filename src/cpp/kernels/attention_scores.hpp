// What happens to the scores of one tile and one block of keys between the two products: soft cap, bias, ALiBi,
// removal, and the online softmax.
#pragma once

#include "kernels/attention_tile.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// What the mask leaves of some keys for the rows of a tile.
enum class MaskCover { nothing, some, everything };

// Eight flags at a time; a strided mask is not looked at beforehand.
template <class C>
MaskCover mask_cover(const AttentionTask& task, const Tile<C>& tile, std::int64_t first, int count) {
  if (task.mask == nullptr) return MaskCover::everything;
  if (task.mask_key_stride != 1) return MaskCover::some;
  const bool same_for_all = task.mask_head_stride == 0 && task.mask_query_stride == 0;
  const int rows = same_for_all ? 1 : tile.rows;
  std::uint64_t any_flag = 0, every_flag = ~std::uint64_t{0};
  for (int row = 0; row < rows; ++row) {
    const bool* flags = task.mask + first + row_offset(tile, row, task.mask_head_stride, task.mask_query_stride);
    int key = 0;
    for (; key + 8 <= count; key += 8) {
      std::uint64_t eight;
      __builtin_memcpy(&eight, flags + key, sizeof eight);
      any_flag |= eight;
      every_flag &= eight;
    }
    for (; key < count; ++key) {
      any_flag |= flags[key] ? 1u : 0u;
      every_flag &= flags[key] ? ~std::uint64_t{0} : 0u;
    }
  }
  if (any_flag == 0) return MaskCover::nothing;
  return every_flag == 0x0101010101010101u || every_flag == ~std::uint64_t{0} ? MaskCover::everything : MaskCover::some;
}

// Soft cap, bias, ALiBi and removal, on the scores of the given keys of the block, in place; the mask only where it
// removes some of them. Returns the keys, or none of them if no row of the tile sees one.
template <class T, class C = compute_type<T>>
KeyRange modify_scores(const AttentionTask& task, const Tile<C>& tile, std::int64_t block_begin, const KeyRange& given,
                       MaskCover cover, const Workspace<C>& workspace) {
  const bool masked = cover == MaskCover::some;
  const std::int64_t first = block_begin + given.first;
  const int count = given.last - given.first;
  C* const scores = workspace.scores + given.first * tile_rows<C>;
  using Integer = lane_integer<C>;
  if (task.bias != nullptr) {
    const T* bias = static_cast<const T*>(task.bias) + first * task.bias_key_stride;
    gather_transposed<C>(
        tile.rows, count, workspace.bias,
        [&](int row) __attribute__((always_inline)) {
          return bias + row_offset(tile, row, task.bias_head_stride, task.bias_query_stride);
        },
        [&](const T* row, std::int64_t j, int left) __attribute__((always_inline)) {
          return load_strided(row + j * task.bias_key_stride, task.bias_key_stride, left);
        });
  }
  if (masked) {
    const bool* mask = task.mask + first * task.mask_key_stride;
    gather_transposed<C>(
        tile.rows, count, workspace.mask,
        [&](int row) __attribute__((always_inline)) {
          return mask + row_offset(tile, row, task.mask_head_stride, task.mask_query_stride);
        },
        [&](const bool* row, std::int64_t j, int left) __attribute__((always_inline)) {
          return bit_cast<vec<C>>(load_strided_flags<C>(row + j * task.mask_key_stride, task.mask_key_stride, left));
        });
  }

  mask_vec<C> low[tile_vectors], high[tile_vectors];
  for (int v = 0; v < tile_vectors; ++v) {
    low[v] = broadcast_integer<C>(Integer{0});
    high[v] = broadcast_integer<C>(static_cast<Integer>(count));
  }
  const bool at_edge = first < tile.all_see_from || first + count > tile.all_see_to || tile.rows < tile_rows<C>;
  for (int row = 0; at_edge && row < tile_rows<C>; ++row) {
    const auto clamped = [&](std::int64_t key) {
      const std::int64_t relative = key - first;
      return static_cast<Integer>(relative < 0 ? 0 : relative > count ? count : relative);
    };
    const SeenKeys seen = row < tile.rows ? seen_keys(task, tile.query_of[row]) : SeenKeys{0, 0};
    low[row / lanes<C>][row % lanes<C>] = clamped(seen.low);
    high[row / lanes<C>][row % lanes<C>] = clamped(seen.high);
  }
  vec<C> slope[tile_vectors], position[tile_vectors];
  for (int row = 0; task.slopes != nullptr && row < tile_rows<C>; ++row) {
    slope[row / lanes<C>][row % lanes<C>] =
        static_cast<const C*>(task.slopes)[tile.head_of[row]] * static_cast<C>(log2_e);
    position[row / lanes<C>][row % lanes<C>] = static_cast<C>(task.query_offset + tile.query_of[row] - first);
  }

  mask_vec<C> seen_by_any{}, removed{};
  for (int key = 0; key < count; ++key) {
#pragma GCC unroll 2
    for (int v = 0; v < tile_vectors; ++v) {
      C* place = scores + key * tile_rows<C> + v * lanes<C>;
      const mask_vec<C> index = broadcast_integer<C>(static_cast<Integer>(key));
      mask_vec<C> seen = (index >= low[v]) & (index < high[v]);
      const std::int64_t entry = key * tile_rows<C> + v * lanes<C>;
      if (masked) seen = seen & bit_cast<mask_vec<C>>(load(workspace.mask + entry));
      const vec<C> bias = task.bias != nullptr ? load(workspace.bias + entry) : zero<C>();
      const vec<C> distance = position[v] - broadcast<C>(static_cast<C>(key));
      store(place, modify_score<C>(task, load(place), bias, slope[v], distance, seen));
      seen_by_any = seen_by_any | seen;
      removed = removed | ~seen;
    }
  }
  return any<C>(seen_by_any) ? KeyRange{given.first, given.last, any<C>(removed)} : KeyRange{0, 0, true};
}

// The keys whose weights are made: those of the range and what their groups hold beside, which weighs nothing.
template <class A>
int weights_begin(const KeyRange& range) {
  return range.first / A::weight_group * A::weight_group;
}
template <class A>
int weights_end(const KeyRange& range) {
  return (range.last + A::weight_group - 1) / A::weight_group * A::weight_group;
}

// scores -> weights, in place: new maximum, 2^(S - maximum), running sums; `correction` is what older sums are worth.
// Pairs of bfloat16: kernels/attention_weights.hpp.
template <class T, class C = compute_type<T>>
void exponentiate(const AttentionTask&, C* scores, const KeyRange& range, const Tile<C>& tile, vec<C>* correction) {
  const vec<C> nothing = broadcast<C>(negative_infinity<C>);
#pragma GCC unroll 2
  for (int v = 0; v < tile_vectors; ++v) {
    C* column = scores + v * lanes<C>;
    const vec<C> old = load(tile.maximum + v * lanes<C>);
    vec<C> even = old, odd = old;
    int key = range.first;
    for (; key + 1 < range.last; key += 2) {
      even = max(even, load(column + key * tile_rows<C>));
      odd = max(odd, load(column + (key + 1) * tile_rows<C>));
    }
    if (key < range.last) even = max(even, load(column + key * tile_rows<C>));
    const vec<C> maximum = max(even, odd);
    store(tile.maximum + v * lanes<C>, maximum);
    // A row that has seen nothing yet: -inf - -inf would be NaN.
    const vec<C> reference = maximum == nothing ? zero<C>() : maximum;
    correction[v] = exp2_nonpositive(old - reference);
    vec<C> sum = zero<C>();
#pragma GCC unroll 4
    for (key = range.first; key < range.last; ++key) {
      const vec<C> weight = exp2_nonpositive(add_on_multipliers<C>(load(column + key * tile_rows<C>), -reference));
      store(column + key * tile_rows<C>, weight);
      sum = add_on_multipliers<C>(weight, sum);
    }
    C* const total = tile.sum + v * lanes<C>;
    store(total, fma(load(total), correction[v], sum));
    store(tile.used + v * lanes<C>, load(total));
  }
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA

#if defined(ATTNLIB_DOT_BFLOAT16)
#include "kernels/attention_weights.hpp"
#endif
