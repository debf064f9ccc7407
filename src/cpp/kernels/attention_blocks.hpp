// Blocks of keys meet the tiles of a task, one after the other (kernels/attention.hpp).
#pragma once

#include "kernels/attention_scores.hpp"
#include "kernels/attention_tile.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// The keys from `begin` on that fall into one block, as the products want them.
template <class T>
struct KeyBlock {
  using Element = typename TileArithmetic<T>::Element;
  std::int64_t begin;
  int count;
  const Element* keys;
  std::int64_t key_stride;
  const Element* values;  // the stride is of A::weight_group keys
  std::int64_t value_stride;
};

template <class T, class C = compute_type<T>>
KeyBlock<T> stage_block(const AttentionTask& task, const Workspace<C>& workspace, std::int64_t begin, int place) {
  using A = TileArithmetic<T>;
  KeyBlock<T> block;
  block.begin = begin;
  block.count = static_cast<int>(task.keys - begin < A::key_block ? task.keys - begin : A::key_block);
  block.key_stride = task.key_stride;
  block.value_stride = task.value_stride;
  block.keys =
      A::stage_keys(static_cast<const T*>(task.key) + begin * task.key_stride, block.key_stride, block.count,
                    task.head_size, task.rows, workspace.keys + place * rounded<C>(A::key_elements(task.head_size)));
  block.values =
      A::stage_values(static_cast<const T*>(task.value) + begin * task.value_stride, block.value_stride, block.count,
                      task.value_size, workspace.values + place * rounded<C>(A::value_elements(task.value_size)));
  return block;
}

// One tile meets one block: scores of the keys that some row of the tile may see. What is left of them after removal,
// or nothing (first == last).
template <class T, class C = compute_type<T>>
KeyRange score_block(const AttentionTask& task, const Tile<C>& tile, const KeyBlock<T>& block,
                     const Workspace<C>& workspace) {
  using A = TileArithmetic<T>;
  const std::int64_t end = block.begin + block.count;
  const std::int64_t first = block.begin > tile.lowest ? block.begin : tile.lowest;
  const std::int64_t last = end < tile.highest ? end : tile.highest;
  if (first >= last) return {0, 0, false};
  const KeyRange range{static_cast<int>(first - block.begin), static_cast<int>(last - block.begin), false};
  const MaskCover cover = mask_cover(task, tile, first, range.last - range.first);
  if (cover == MaskCover::nothing) return {0, 0, false};
  TileProducts<A>::scores(block.keys, block.key_stride, range.first, range.last, tile.query, task.head_size,
                          scales_late<T>(task) ? C{1} : score_scale<C>(task), workspace.scores);
  const bool unmodified =
      cover == MaskCover::everything && task.bias == nullptr && task.slopes == nullptr && task.softcap == 0.0;
  if (unmodified && first >= tile.all_see_from && last <= tile.all_see_to) return range;
  return modify_scores<T>(task, tile, block.begin, range, cover, workspace);
}

template <class T, class C = compute_type<T>>
void add_block(const AttentionTask& task, Tile<C>& tile, const KeyBlock<T>& block, const KeyRange& range,
               const Workspace<C>& workspace) {
  using A = TileArithmetic<T>;
  using Products = TileProducts<A>;
  vec<C> corrections[tile_vectors];
  exponentiate<T>(task, workspace.scores, range, tile, corrections);
  const vec<C>* correction = tile.has_accumulated ? corrections : nullptr;
  tile.has_accumulated = true;
  const int first = weights_begin<A>(range), last = weights_end<A>(range);
  const bool all_seen = !range.has_removed && range.first == first && (range.last == last || range.last == block.count);
  if (all_seen || Products::all_finite(block.values, block.value_stride, first, last, task.value_size))
    Products::values(block.values, block.value_stride, first, last, workspace.scores, task.value_size, correction,
                     tile.accumulated, tile.used);
  else
    Products::seen_values(block.values, block.value_stride, first, last, workspace.scores, task.value_size, correction,
                          tile.accumulated, tile.used);
}

// All tiles meet the keys from `begin` to `end`: visit(tile, block, range) where some row sees some key of a block. As
// many blocks as A::staged_blocks are staged together, and walked by one tile after the other.
template <class T, class C = compute_type<T>, class Visit>
ATTNLIB_INLINE void walk_keys(const AttentionTask& task, const Workspace<C>& workspace, std::int64_t begin,
                              std::int64_t end, Tile<C>* tile, int tiles, Visit visit) {
  using A = TileArithmetic<T>;
  while (begin < end) {
    KeyBlock<T> block[A::staged_blocks];
    int blocks = 0;
    for (; blocks < A::staged_blocks && begin < end; ++blocks, begin += A::key_block)
      block[blocks] = stage_block<T>(task, workspace, begin, blocks);
    for (int index = 0; index < tiles; ++index) {
      for (int i = 0; i < blocks; ++i) {
        const KeyRange range = score_block<T>(task, tile[index], block[i], workspace);
        if (range.first < range.last) visit(tile[index], block[i], range);
      }
    }
  }
}

// All of a task.
template <class T>
void attend_in_tiles(const AttentionTask& task) {
  using C = compute_type<T>;
  const Workspace<C> workspace = divide_scratch<T>(task);
  constexpr int key_block = TileArithmetic<T>::key_block;
  const int tiles = static_cast<int>((task.rows + tile_rows<C> - 1) / tile_rows<C>);
  Tile<C> tile[attention_tiles_per_task];
  std::int64_t lowest = task.keys, highest = 0;
  for (int index = 0; index < tiles; ++index) {
    begin_tile<T>(task, workspace, index, tile[index]);
    lowest = tile[index].lowest < lowest ? tile[index].lowest : lowest;
    highest = tile[index].highest > highest ? tile[index].highest : highest;
  }
  const std::int64_t first = lowest / key_block * key_block;
  walk_keys<T>(task, workspace, first, highest, tile, tiles,
               [&](Tile<C>& one, const KeyBlock<T>& block, const KeyRange& range) __attribute__((always_inline)) {
                 if (block.begin + block.count >= one.highest)
                   fetch_next_queries<T>(task, static_cast<int>(&one - tile));
                 add_block<T>(task, one, block, range, workspace);
               });
  for (int index = 0; index < tiles; ++index) finish_tile<T>(task, tile[index]);

  if (task.weights == nullptr) return;
  // The weights need the final maximum and sum: the scores are made a second time.
  for (int index = 0; index < tiles; ++index) clear_weights<T>(task, tile[index]);
  walk_keys<T>(task, workspace, first, highest, tile, tiles,
               [&](const Tile<C>& one, const KeyBlock<T>& block, const KeyRange& range)
                   __attribute__((always_inline)) { store_weights<T>(task, one, block.begin, range, workspace); });
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
