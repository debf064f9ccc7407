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
__attribute__((noinline)) KeyRange score_block(const AttentionTask& task, const Tile<C>& tile, const KeyBlock<T>& block,
                                               const Workspace<C>& workspace, TileAhead& ahead) {
  using A = TileArithmetic<T>;
  const std::int64_t end = block.begin + block.count;
  const std::int64_t first = block.begin > tile.lowest ? block.begin : tile.lowest;
  const std::int64_t last = end < tile.highest ? end : tile.highest;
  if (first >= last) return {0, 0, false};
  const KeyRange range{static_cast<int>(first - block.begin), static_cast<int>(last - block.begin), false};
  const MaskCover cover = mask_cover(task, tile, first, range.last - range.first);
  if (cover == MaskCover::nothing) return {0, 0, false};
  TileProducts<A>::scores(block.keys, block.key_stride, range.first, range.last, tile.query, task.head_size,
                          scales_late<T>(task) ? C{1} : score_scale<C>(task), workspace.scores, ahead);
  const bool unmodified =
      cover == MaskCover::everything && task.bias == nullptr && task.slopes == nullptr && task.softcap == 0.0;
  if (unmodified && first >= tile.all_see_from && last <= tile.all_see_to) return range;
  return modify_scores<T>(task, tile, block.begin, range, cover, workspace);
}

template <class T, class C = compute_type<T>>
void add_block(const AttentionTask& task, Tile<C>& tile, const KeyBlock<T>& block, const KeyRange& range,
               const Workspace<C>& workspace, TileAhead& ahead) {
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
                     tile.accumulated, tile.used, ahead);
  else
    Products::seen_values(block.values, block.value_stride, first, last, workspace.scores, task.value_size, correction,
                          tile.accumulated, tile.used);
}

// A task: its tiles, and the keys that they meet.
template <class T>
class TiledAttention {
  using C = compute_type<T>;
  using A = TileArithmetic<T>;

 public:
  explicit TiledAttention(const AttentionTask& task)
      : task_(task),
        workspace_(divide_scratch<T>(task)),
        tiles_(static_cast<int>((task.rows + tile_rows<C> - 1) / tile_rows<C>)),
        lowest_(task.keys) {
    for (int index = 0; index < tiles_; ++index) {
      Tile<C>& tile = tile_[index];
      place_tile<T>(task, workspace_, index, tile);
      lowest_ = tile.lowest < lowest_ ? tile.lowest : lowest_;
      highest_ = tile.highest > highest_ ? tile.highest : highest_;
    }
  }

  void attend() {
    walk_keys([&](int index, const KeyBlock<T>& block) __attribute__((always_inline)) {
      const Tile<C>& tile = tile_[index];
      if (block.begin < tile.highest && block.begin + block.count > tile.lowest) attend_block(index, block);
    });
    for (int index = 0; index < tiles_; ++index) {
      if (tile_[index].has_begun) continue;  // else no row of it sees any key
      begin_tile<T>(task_, tile_[index]);
      finish_tile<T>(task_, tile_[index]);
    }
  }

  // They need the final maximum and sum: the scores are made a second time.
  void make_weights() {
    for (int index = 0; index < tiles_; ++index) clear_weights<T>(task_, tile_[index]);
    walk_keys([&](int index, const KeyBlock<T>& block) __attribute__((always_inline)) {
      TileAhead nothing;
      const KeyRange range = score_block<T>(task_, tile_[index], block, workspace_, nothing);
      if (range.first < range.last) store_weights<T>(task_, tile_[index], block.begin, range, workspace_);
    });
  }

 private:
  // All tiles meet all keys, block by block: meet(index of the tile, block). As many blocks as A::staged_blocks are
  // staged together, and walked by one tile after the other.
  template <class Meet>
  __attribute__((always_inline)) void walk_keys(Meet meet) {
    std::int64_t begin = lowest_ / A::key_block * A::key_block;
    while (begin < highest_) {
      KeyBlock<T> block[A::staged_blocks];
      int blocks = 0;
      for (; blocks < A::staged_blocks && begin < highest_; ++blocks, begin += A::key_block)
        block[blocks] = stage_block<T>(task_, workspace_, begin, blocks);
      for (int index = 0; index < tiles_; ++index)
        for (int i = 0; i < blocks; ++i) meet(index, block[i]);
    }
  }

  void attend_block(int index, const KeyBlock<T>& block) {
    Tile<C>& tile = tile_[index];
    const bool begins = !tile.has_begun, ends = block.begin + block.count >= tile.highest;
    if (begins) begin_tile<T>(task_, tile);
    TileAhead ahead;
    look_ahead(index, block, begins, ends, ahead);
    const KeyRange range = score_block<T>(task_, tile, block, workspace_, ahead);
    if (range.first < range.last) add_block<T>(task_, tile, block, range, workspace_, ahead);
    if (ends) finish_tile<T>(task_, tile);
  }

  // The queries of the tile after this one, where this one's results go, and this tile's part of the next block of keys
  // and values: of this task, or of the one after it.
  __attribute__((noinline)) void look_ahead(int index, const KeyBlock<T>& block, bool begins, bool ends,
                                            TileAhead& ahead) const {
    const AttentionTask* const next = task_.next;
    const Tile<C>& tile = tile_[index];
    const bool is_last = index + 1 == tiles_;
    if (begins && !is_last) add_queries(task_, tile_[index + 1].first_row, tile_[index + 1].rows, ahead);
    if (ends && is_last && next != nullptr)
      add_queries(*next, next->first_row, next->rows < tile_rows<C> ? next->rows : std::int64_t{tile_rows<C>}, ahead);
    if (ends)
      ahead.add_tile(task_, tile.first_row, tile.rows, task_.out, task_.out_head_stride * size, task_.out_stride * size,
                     task_.value_size * size);
    if (A::fetches_keys) {
      if (block.begin + block.count < highest_)
        add_keys(task_, block.begin + block.count, index, ahead);
      else if (next != nullptr && next->key != task_.key)  // else they have just been read
        add_keys(*next, seen_keys(*next, next->first_row / next->heads).low / A::key_block * A::key_block, index,
                 ahead);
    }
    ahead.share_among(TileProducts<A>::products_of(block.count, task_.value_size));
  }
  static void add_queries(const AttentionTask& task, std::int64_t first_row, std::int64_t rows, TileAhead& ahead) {
    ahead.add_tile(task, first_row, rows, task.query, task.query_head_stride * size, task.query_stride * size,
                   task.head_size * size);
  }
  void add_keys(const AttentionTask& task, std::int64_t begin, int index, TileAhead& ahead) const {
    const std::int64_t left = task.keys - begin, count = left < A::key_block ? left : std::int64_t{A::key_block};
    const std::int64_t first = begin + index * count / tiles_, rows = begin + (index + 1) * count / tiles_ - first;
    ahead.add(static_cast<const T*>(task.key) + first * task.key_stride, task.key_stride * size, rows,
              task.head_size * size);
    ahead.add(static_cast<const T*>(task.value) + first * task.value_stride, task.value_stride * size, rows,
              task.value_size * size);
  }
  static constexpr std::int64_t size = sizeof(T);

  const AttentionTask& task_;
  const Workspace<C> workspace_;
  const int tiles_;
  std::int64_t lowest_, highest_ = 0;
  Tile<C> tile_[attention_tiles_per_task];
};

template <class T>
void attend_in_tiles(const AttentionTask& task) {
  TiledAttention<T> attention(task);
  attention.attend();
  if (task.weights != nullptr) attention.make_weights();
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
