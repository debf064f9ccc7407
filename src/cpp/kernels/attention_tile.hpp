// One tile of rows: its state between blocks of keys, its beginning (queries into the lanes) and its end (results out
// of them). See kernels/attention.hpp for the whole.
#pragma once

#include "kernels/attention_lanes.hpp"
#include "kernels/attention_rows.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// One tile between blocks. It begins when it meets its first block of keys and ends after its last one: what it reads
// is then fetched in time, what it writes is asked for in its last block, and its sums are still near when they go out.
// Lanes beyond the task's last row hold copies of it that see no key.
template <class C>
struct Tile {
  std::int64_t first_row;                                      // in the task's sequence and group
  int rows;                                                    // 1..tile_rows
  std::int64_t lowest, highest;                                // keys outside [lowest, highest) are seen by no row
  std::int64_t all_see_from, all_see_to;                       // keys inside are seen by every row, mask and bias aside
  std::int64_t query_of[tile_rows<C>], head_of[tile_rows<C>];  // the row's query, and its head within the group
  C* query;                                                    // [query_steps][tile_rows], scaled
  C* accumulated;                                              // [value_rows][tile_rows], from the first block on
  bool has_begun, has_accumulated;
  C* maximum;  // [tile_rows], log2 units: what scores are taken relative to
  C* sum;      // [tile_rows]; in the end what weights are multiplied by
  C* used;     // [tile_rows]; in the end what out is multiplied by
};

// Keys of a block, from the first to the last that some row of the tile sees, counted from the block's begin.
// `has_removed`: not every row sees all of them.
struct KeyRange {
  int first, last;
  bool has_removed;
};

template <class C>
struct Workspace {
  C* tiles;   // per tile: query, accumulated, maximum, sum, used
  C* scores;  // [key_block][tile_rows]
  C* bias;    // [key_block][tile_rows]
  C* mask;    // [key_block][tile_rows], lanes of 0 or -1 in the integer of C's size
  C* keys;    // staged, A::staged_blocks of them
  C* values;  // likewise
};

template <class T, class C = compute_type<T>>
constexpr std::int64_t tile_elements(std::int64_t head_size, std::int64_t value_size) {
  using A = TileArithmetic<T>;
  return (A::query_steps(head_size) + A::value_rows(value_size) + 3) * tile_rows<C>;
}

template <class C>
constexpr std::int64_t rounded(std::int64_t elements) {
  constexpr std::int64_t line = 64 / sizeof(C);
  return (elements + line - 1) / line * line;
}

template <class T, class C = compute_type<T>>
constexpr std::int64_t scratch_elements(std::int64_t head_size, std::int64_t value_size) {
  using A = TileArithmetic<T>;
  return attention_tiles_per_task * tile_elements<T>(head_size, value_size) + 3 * A::key_block * tile_rows<C> +
         A::staged_blocks * (rounded<C>(A::key_elements(head_size)) + rounded<C>(A::value_elements(value_size)));
}

template <class T, class C = compute_type<T>>
Workspace<C> divide_scratch(const AttentionTask& task) {
  using A = TileArithmetic<T>;
  Workspace<C> w;
  w.tiles = static_cast<C*>(task.scratch);
  w.scores = w.tiles + attention_tiles_per_task * tile_elements<T>(task.head_size, task.value_size);
  w.bias = w.scores + A::key_block * tile_rows<C>;
  w.mask = w.bias + A::key_block * tile_rows<C>;
  w.keys = w.mask + A::key_block * tile_rows<C>;
  w.values = w.keys + A::staged_blocks * rounded<C>(A::key_elements(task.head_size));
  return w;
}

// The offset of a tile's row in an array with these strides along heads and queries.
template <class C>
ATTNLIB_INLINE std::int64_t row_offset(const Tile<C>& tile, int row, std::int64_t head_stride,
                                       std::int64_t query_stride) {
  return tile.query_of[row] * query_stride + tile.head_of[row] * head_stride;
}

// What the rows of a tile see, from its first query to its last. Both ends move up with the query, so the outermost
// queries that see any key tell.
template <class C>
void see_keys(const AttentionTask& task, std::int64_t first_query, std::int64_t last_query, Tile<C>& tile) {
  SeenKeys first = seen_keys(task, first_query), last = seen_keys(task, last_query);
  const bool all_see_some = first.low < first.high && last.low < last.high;
  tile.all_see_from = all_see_some ? last.low : 0;
  tile.all_see_to = all_see_some ? first.high : 0;
  while (first.low >= first.high && first_query < last_query) first = seen_keys(task, ++first_query);
  while (last.low >= last.high && first_query < last_query) last = seen_keys(task, --last_query);
  tile.lowest = first.low < first.high ? first.low : task.keys;
  tile.highest = last.high;
}

// Where a tile's state lies, which rows are its own and what they see.
template <class T, class C = compute_type<T>>
void place_tile(const AttentionTask& task, const Workspace<C>& workspace, int index, Tile<C>& tile) {
  C* memory = workspace.tiles + index * tile_elements<T>(task.head_size, task.value_size);
  tile.query = memory;
  tile.accumulated = tile.query + TileArithmetic<T>::query_steps(task.head_size) * tile_rows<C>;
  tile.maximum = tile.accumulated + TileArithmetic<T>::value_rows(task.value_size) * tile_rows<C>;
  tile.sum = tile.maximum + tile_rows<C>;
  tile.used = tile.sum + tile_rows<C>;
  tile.has_begun = tile.has_accumulated = false;
  const std::int64_t left = task.rows - static_cast<std::int64_t>(index) * tile_rows<C>;
  tile.rows = static_cast<int>(left < tile_rows<C> ? left : static_cast<std::int64_t>(tile_rows<C>));

  tile.first_row = task.first_row + index * tile_rows<C>;
  std::int64_t query = tile.first_row / task.heads, head = tile.first_row % task.heads;
  see_keys(task, query, (tile.first_row + tile.rows - 1) / task.heads, tile);
  for (int row = 0; row < tile_rows<C>; ++row) {
    tile.query_of[row] = query;
    tile.head_of[row] = head;
    if (++head == task.heads) {
      head = 0;
      ++query;
    }
  }
}

template <class T, class C = compute_type<T>>
__attribute__((noinline)) void begin_tile(const AttentionTask& task, Tile<C>& tile) {
  const vec<C> scale = broadcast<C>(score_scale<C>(task));
  const T* queries = static_cast<const T*>(task.query);
  gather_transposed<C>(
      tile.rows, TileArithmetic<T>::query_steps(task.head_size), tile.query,
      [&](int row) __attribute__((always_inline)) {
        return queries + row_offset(tile, row, task.query_head_stride, task.query_stride);
      },
      [&](const T* row, std::int64_t step, int)
          __attribute__((always_inline)) { return TileArithmetic<T>::load_query(row, step, task.head_size, scale); });
  for (int i = 0; i < tile_rows<C>; i += lanes<C>) {
    store(tile.maximum + i, broadcast<C>(-static_cast<C>(__builtin_inf())));
    store(tile.sum + i, zero<C>());
    store(tile.used + i, zero<C>());
  }
  tile.has_begun = true;
}

// out = O / l, the log-sum-exp, and in tile.sum what store_weights multiplies by.
template <class T, class C = compute_type<T>>
__attribute__((noinline)) void finish_tile(const AttentionTask& task, const Tile<C>& tile) {
  if (!tile.has_accumulated)
    for (std::int64_t i = 0; i < task.value_size * tile_rows<C>; i += lanes<C>) store(tile.accumulated + i, zero<C>());
  for (int first = 0; first < tile.rows; first += lanes<C>) {
    const RowsEnd<C> end = end_rows<C>(task, tile.head_of + first, tile.rows - first, load(tile.maximum + first),
                                       load(tile.sum + first), load(tile.used + first));
    store(tile.used + first, end.out_factor);
    store(tile.sum + first, end.weight_factor);
    if (task.lse == nullptr) continue;
    for (int row = first; row < tile.rows && row < first + lanes<C>; ++row)
      static_cast<C*>(task.lse)[row_offset(tile, row, task.lse_head_stride, task.lse_query_stride)] =
          log_sum<C>(end.maximum[row - first], end.sum[row - first]);
  }
  T* out = static_cast<T*>(task.out);
  scatter_transposed<T, C>(tile.rows, task.value_size, tile.accumulated, tile.used,
                           [&](int row) __attribute__((always_inline)) {
                             return out + row_offset(tile, row, task.out_head_stride, task.out_stride);
                           });
}

// Scores that have yet to be scaled become weights: scores of keys that nothing but their place and the mask removes.
template <class T>
ATTNLIB_INLINE bool scales_late(const AttentionTask& task) {
  // A scale that counts as zero would make NaN of the scores that are -inf.
  return TileArithmetic<T>::scales_late && task.bias == nullptr && task.slopes == nullptr && task.softcap == 0.0 &&
         score_scale<compute_type<T>>(task) >= 0x1p-126f;
}
// What a score is above the reference, in units of log2.
template <class T, class C = compute_type<T>>
ATTNLIB_INLINE vec<C> relative_score(const AttentionTask& task, vec<C> score, vec<C> reference) {
  return scales_late<T>(task) ? fma(score, broadcast<C>(score_scale<C>(task)), -reference) : score - reference;
}

template <class T, class C>
ATTNLIB_INLINE T* weights_row(const AttentionTask& task, const Tile<C>& tile, int row) {
  return static_cast<T*>(task.weights) + row_offset(tile, row, task.weights_head_stride, task.weights_query_stride);
}

template <class T, class C = compute_type<T>>
void clear_weights(const AttentionTask& task, const Tile<C>& tile) {
  for (int row = 0; row < tile.rows; ++row)
    __builtin_memset(weights_row<T>(task, tile, row), 0, static_cast<std::uint64_t>(task.weights_keys) * sizeof(T));
}

template <class T, class C = compute_type<T>>
void store_weights(const AttentionTask& task, const Tile<C>& tile, std::int64_t block_begin, const KeyRange& range,
                   const Workspace<C>& workspace) {
  C* scores = workspace.scores + range.first * tile_rows<C>;
  const vec<C> nothing = broadcast<C>(-static_cast<C>(__builtin_inf()));
  for (int key = 0; key < range.last - range.first; ++key) {
    for (int v = 0; v < tile_vectors; ++v) {
      C* place = scores + key * tile_rows<C> + v * lanes<C>;
      const vec<C> maximum = load(tile.maximum + v * lanes<C>);
      const vec<C> reference = maximum == nothing ? zero<C>() : maximum;
      store(place, exp2_nonpositive(relative_score<T>(task, load(place), reference)));
    }
  }
  const std::int64_t first = block_begin + range.first;
  scatter_transposed<T, C>(tile.rows, range.last - range.first, scores, tile.sum,
                           [&](int row)
                               __attribute__((always_inline)) { return weights_row<T>(task, tile, row) + first; });
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
