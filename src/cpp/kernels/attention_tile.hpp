// The steps of kernels/attention.cpp: what happens to one tile of rows. See kernels/attention.hpp for the whole.
#pragma once

#include "kernels/attention.hpp"
#include "kernels/simd/math.hpp"
#include "kernels/simd/transpose.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr int tile_vectors = 2;
template <class C>
constexpr int tile_rows = tile_vectors* lanes<C>;
constexpr int key_block = 64;
constexpr double log2_e = 1.4426950408889634;
constexpr double ln_2 = 0.6931471805599453;

// One tile between blocks. Rows beyond the task's last one are lanes of zeros that see no key.
template <class C>
struct Tile {
  int rows;                              // 1..tile_rows
  std::int64_t lowest, highest;          // keys outside [lowest, highest) are seen by no row
  std::int64_t all_see_from, all_see_to; // keys inside are seen by every row, mask and bias aside
  std::int64_t low[tile_rows<C>], high[tile_rows<C>];    // row sees keys of [low, high)
  std::int64_t query_of[tile_rows<C>], head_of[tile_rows<C>];  // the row's query, and its head within the group
  C* query;        // [head_size][tile_rows], scaled
  C* accumulated;  // [value_size][tile_rows]
  C* maximum;      // [tile_rows], log2 units
  C* sum;          // [tile_rows]
};

// Keys of a block that some row sees, counted from the block's begin; `shift` is the row of the scores that belongs to
// the first of them. With gaps, some in between are seen by none.
struct KeyRange {
  int first, last;
  bool has_gaps;
  int shift = 0;
};

template <class C>
struct Workspace {
  C* tiles;        // per tile: query, accumulated, maximum, sum
  C* scores;       // [key_block][tile_rows]
  C* bias;         // [key_block][tile_rows]
  C* mask;         // [key_block][tile_rows], lanes of 0 or -1 in the integer of C's size
  C* keys;         // [key_block][head_size]
  C* values;       // [key_block][value_size]
  C* seen_values;  // [key_block][value_size]
  unsigned char* seen;  // [key_block]
};

template <class C>
constexpr std::int64_t tile_elements(std::int64_t head_size, std::int64_t value_size) {
  return (head_size + value_size + 2) * tile_rows<C>;
}

template <class C>
constexpr std::int64_t rounded(std::int64_t elements) {
  constexpr std::int64_t line = 64 / sizeof(C);
  return (elements + line - 1) / line * line;
}

template <class C>
constexpr std::int64_t scratch_elements(std::int64_t head_size, std::int64_t value_size) {
  return attention_tiles_per_task * tile_elements<C>(head_size, value_size) + 3 * key_block * tile_rows<C> +
         rounded<C>(key_block * head_size) + 2 * rounded<C>(key_block * value_size) + rounded<C>(key_block);
}

template <class C>
Workspace<C> divide_scratch(const AttentionTask& task) {
  Workspace<C> w;
  w.tiles = static_cast<C*>(task.scratch);
  w.scores = w.tiles + attention_tiles_per_task * tile_elements<C>(task.head_size, task.value_size);
  w.bias = w.scores + key_block * tile_rows<C>;
  w.mask = w.bias + key_block * tile_rows<C>;
  w.keys = w.mask + key_block * tile_rows<C>;
  w.values = w.keys + rounded<C>(key_block * task.head_size);
  w.seen_values = w.values + rounded<C>(key_block * task.value_size);
  w.seen = reinterpret_cast<unsigned char*>(w.seen_values + rounded<C>(key_block * task.value_size));
  return w;
}

// ---- products ---------------------------------------------------------------------------------------------------

// scores[key][row] = sum_d keys[key][d] query[d][row] for Keys keys.
template <class C, int Keys>
void score_keys(const C* keys, std::int64_t key_stride, const C* query, std::int64_t head_size, C* scores) {
  vec<C> sum[Keys][tile_vectors];
#pragma GCC unroll 16
  for (int key = 0; key < Keys; ++key)
    for (int v = 0; v < tile_vectors; ++v) sum[key][v] = zero<C>();
#pragma GCC unroll 2
  for (std::int64_t d = 0; d < head_size; ++d) {
    vec<C> row[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) row[v] = load(query + d * tile_rows<C> + v * lanes<C>);
#pragma GCC unroll 16
    for (int key = 0; key < Keys; ++key) {
      const vec<C> value = broadcast<C>(keys[key * key_stride + d]);
      for (int v = 0; v < tile_vectors; ++v) sum[key][v] = fma(value, row[v], sum[key][v]);
    }
  }
#pragma GCC unroll 16
  for (int key = 0; key < Keys; ++key)
    for (int v = 0; v < tile_vectors; ++v) store(scores + key * tile_rows<C> + v * lanes<C>, sum[key][v]);
}

// accumulated[d][row] = accumulated[d][row] * correction[row] + sum_key values[key][d] weights[key][row] for Columns d.
// The block is summed on its own first: with S keys the rounding errors then grow like sqrt(key_block + S / key_block).
template <class C, int Columns>
void add_values(const C* values, std::int64_t value_stride, int count, const C* weights, const vec<C>* correction,
                C* accumulated) {
  vec<C> sum[Columns][tile_vectors];
#pragma GCC unroll 16
  for (int d = 0; d < Columns; ++d)
    for (int v = 0; v < tile_vectors; ++v) sum[d][v] = zero<C>();
#pragma GCC unroll 2
  for (int key = 0; key < count; ++key) {
    vec<C> weight[tile_vectors];
    for (int v = 0; v < tile_vectors; ++v) weight[v] = load(weights + key * tile_rows<C> + v * lanes<C>);
#pragma GCC unroll 16
    for (int d = 0; d < Columns; ++d) {
      const vec<C> value = broadcast<C>(values[key * value_stride + d]);
      for (int v = 0; v < tile_vectors; ++v) sum[d][v] = fma(value, weight[v], sum[d][v]);
    }
  }
#pragma GCC unroll 16
  for (int d = 0; d < Columns; ++d) {
    for (int v = 0; v < tile_vectors; ++v) {
      C* place = accumulated + d * tile_rows<C> + v * lanes<C>;
      store(place, fma(load(place), correction[v], sum[d][v]));
    }
  }
}

// Both products in tiles of `attention_rows`, the last of them as narrow as what is left.
template <class C, int Keys = attention_rows>
ATTNLIB_INLINE void score_rest(const C* keys, std::int64_t key_stride, int count, const C* query,
                               std::int64_t head_size, C* scores) {
  if constexpr (Keys > 0) {
    if (count == Keys)
      score_keys<C, Keys>(keys, key_stride, query, head_size, scores);
    else
      score_rest<C, Keys - 1>(keys, key_stride, count, query, head_size, scores);
  }
}

template <class C>
void multiply_scores(const C* keys, std::int64_t key_stride, std::int64_t count, const C* query,
                     std::int64_t head_size, C* scores) {
  std::int64_t key = 0;
  for (; key + attention_rows <= count; key += attention_rows)
    score_keys<C, attention_rows>(keys + key * key_stride, key_stride, query, head_size, scores + key * tile_rows<C>);
  score_rest<C>(keys + key * key_stride, key_stride, static_cast<int>(count - key), query, head_size,
                scores + key * tile_rows<C>);
}

template <class C, int Columns = attention_rows>
ATTNLIB_INLINE void add_rest(const C* values, std::int64_t value_stride, int columns, int count, const C* weights,
                             const vec<C>* correction, C* accumulated) {
  if constexpr (Columns > 0) {
    if (columns == Columns)
      add_values<C, Columns>(values, value_stride, count, weights, correction, accumulated);
    else
      add_rest<C, Columns - 1>(values, value_stride, columns, count, weights, correction, accumulated);
  }
}

template <class C>
void multiply_values(const C* values, std::int64_t value_stride, int count, const C* weights, std::int64_t value_size,
                     const vec<C>* correction, C* accumulated) {
  std::int64_t d = 0;
  for (; d + attention_rows <= value_size; d += attention_rows)
    add_values<C, attention_rows>(values + d, value_stride, count, weights, correction, accumulated + d * tile_rows<C>);
  add_rest<C>(values + d, value_stride, static_cast<int>(value_size - d), count, weights, correction,
              accumulated + d * tile_rows<C>);
}

// ---- into and out of the lanes ----------------------------------------------------------------------------------

// target[j][row] = rows[row][j] for `count` columns j: pointer_of(row) gives the address of a row's column 0, `Load`
// (pointer, columns left) a register of its next columns. Lanes beyond `used` repeat the last row.
template <class C, class PointerOf, class Load>
ATTNLIB_INLINE void gather_transposed(int used, std::int64_t count, C* target, PointerOf pointer_of, Load load_columns) {
  for (int group = 0; group < tile_vectors; ++group) {
    decltype(pointer_of(0)) pointers[lanes<C>];
    for (int lane = 0; lane < lanes<C>; ++lane) {
      const int row = group * lanes<C> + lane;
      pointers[lane] = pointer_of(row < used ? row : used - 1);
    }
    for (std::int64_t j = 0; j < count; j += lanes<C>) {
      const int left = static_cast<int>(count - j < lanes<C> ? count - j : static_cast<std::int64_t>(lanes<C>));
      vec<C> rows[lanes<C>];
#pragma GCC unroll 16
      for (int lane = 0; lane < lanes<C>; ++lane) rows[lane] = load_columns(pointers[lane], j, left);
      transpose<C>(rows);
#pragma GCC unroll 16
      for (int i = 0; i < lanes<C>; ++i)
        if (i < left) store(target + (j + i) * tile_rows<C> + group * lanes<C>, rows[i]);
    }
  }
}

// rows[row][j] = source[j][row] * factor[row] for the first `used` rows, in T.
template <class T, class C, class PointerOf>
ATTNLIB_INLINE void scatter_transposed(int used, std::int64_t count, const C* source, const C* factor,
                                       PointerOf pointer_of) {
  for (int group = 0; group * lanes<C> < used; ++group) {
    const vec<C> scale = load(factor + group * lanes<C>);
    for (std::int64_t j = 0; j < count; j += lanes<C>) {
      const int left = static_cast<int>(count - j < lanes<C> ? count - j : static_cast<std::int64_t>(lanes<C>));
      vec<C> rows[lanes<C>];
#pragma GCC unroll 16
      for (int i = 0; i < lanes<C>; ++i)
        rows[i] = i < left ? load(source + (j + i) * tile_rows<C> + group * lanes<C>) * scale : zero<C>();
      transpose<C>(rows);
      for (int lane = 0; lane < lanes<C>; ++lane) {
        const int row = group * lanes<C> + lane;
        if (row >= used) break;
        T* target = pointer_of(row) + j;
        if (left == lanes<C>)
          store(target, rows[lane]);
        else
          store_partial(target, rows[lane], left);
      }
    }
  }
}

// The offset of a tile's row in an array with these strides along heads and queries.
template <class C>
ATTNLIB_INLINE std::int64_t row_offset(const Tile<C>& tile, int row, std::int64_t head_stride,
                                       std::int64_t query_stride) {
  return tile.query_of[row] * query_stride + tile.head_of[row] * head_stride;
}

template <class T, class C = compute_type<T>>
void begin_tile(const AttentionTask& task, const Workspace<C>& workspace, int index, Tile<C>& tile) {
  C* memory = workspace.tiles + index * tile_elements<C>(task.head_size, task.value_size);
  tile.query = memory;
  tile.accumulated = tile.query + task.head_size * tile_rows<C>;
  tile.maximum = tile.accumulated + task.value_size * tile_rows<C>;
  tile.sum = tile.maximum + tile_rows<C>;
  const std::int64_t left = task.rows - static_cast<std::int64_t>(index) * tile_rows<C>;
  tile.rows = static_cast<int>(left < tile_rows<C> ? left : static_cast<std::int64_t>(tile_rows<C>));

  tile.lowest = task.keys;
  tile.highest = 0;
  tile.all_see_from = 0;
  tile.all_see_to = task.keys;
  const std::int64_t first_row = task.first_row + index * tile_rows<C>;
  std::int64_t query = first_row / task.heads, head = first_row % task.heads;
  for (int row = 0; row < tile_rows<C>; ++row) {
    tile.low[row] = tile.high[row] = 0;
    tile.query_of[row] = query;
    tile.head_of[row] = head;
    if (row >= tile.rows) continue;
    std::int64_t low = query + task.left_offset, high = query + task.right_offset + 1;
    low = low > 0 ? low : 0;
    high = high < task.keys ? high : task.keys;
    if (low >= high) low = high = 0;
    tile.low[row] = low;
    tile.high[row] = high;
    if (low < high) {
      tile.lowest = low < tile.lowest ? low : tile.lowest;
      tile.highest = high > tile.highest ? high : tile.highest;
    }
    tile.all_see_from = low > tile.all_see_from ? low : tile.all_see_from;
    tile.all_see_to = high < tile.all_see_to ? high : tile.all_see_to;
    if (++head == task.heads) {
      head = 0;
      ++query;
    }
  }

  // With a soft cap the scores are first divided by it; log2 e then comes with the cap.
  const vec<C> scale =
      broadcast<C>(static_cast<C>(task.softcap == 0.0 ? task.scale * log2_e : task.scale / task.softcap));
  const T* queries = static_cast<const T*>(task.query);
  gather_transposed<C>(
      tile.rows, task.head_size, tile.query,
      [&](int row) __attribute__((always_inline)) {
        return queries + row_offset(tile, row, task.query_head_stride, task.query_stride);
      },
      [&](const T* row, std::int64_t d, int left_columns) __attribute__((always_inline)) {
        return (left_columns == lanes<C> ? load(row + d) : load_partial(row + d, left_columns)) * scale;
      });
  for (std::int64_t i = 0; i < task.value_size * tile_rows<C>; i += lanes<C>) store(tile.accumulated + i, zero<C>());
  for (int i = 0; i < tile_rows<C>; i += lanes<C>) {
    store(tile.maximum + i, broadcast<C>(-static_cast<C>(__builtin_inf())));
    store(tile.sum + i, zero<C>());
  }
}

// ---- scores -----------------------------------------------------------------------------------------------------

// Soft cap, bias, ALiBi and removal, on the scores of `count` keys from key `first` on, in place. Returns the keys that
// some row of the tile still sees (counted from `first`) and notes them in workspace.seen.
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
    position[row / lanes<C>][row % lanes<C>] =
        static_cast<C>(task.query_offset + tile.query_of[row] - first);
  }

  KeyRange range{count, 0, false};
  int seen_keys = 0;
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
      if (task.slopes != nullptr)
        score = score - slope[v] * abs<C>(position[v] - broadcast<C>(static_cast<C>(key)));
      if (task.mask != nullptr)
        seen = seen & bit_cast<mask_vec<C>>(load(workspace.mask + key * tile_rows<C> + v * lanes<C>));
      store(place, seen ? score : broadcast<C>(-infinity));
      seen_by_any = seen_by_any | seen;
    }
    const bool is_seen = any<C>(seen_by_any);
    workspace.seen[key] = is_seen ? 1 : 0;
    if (!is_seen) continue;
    if (range.first > key) range.first = key;
    range.last = key + 1;
    ++seen_keys;
  }
  range.has_gaps = range.last - range.first > seen_keys;
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

// The value rows with zeros for those that no row sees: 0 * NaN must not reach the sum.
template <class C>
const C* without_unseen_rows(const C* values, std::int64_t stride, std::int64_t width, const unsigned char* seen,
                             int count, C* target) {
  for (int key = 0; key < count; ++key)
    for (std::int64_t d = 0; d < width; ++d)
      target[key * width + d] = seen[key] != 0 ? values[key * stride + d] : C{0};
  return target;
}

// ---- results ----------------------------------------------------------------------------------------------------

// out = O / l, the log-sum-exp, and in tile.sum what store_weights multiplies by. A sink is one more term of the sum.
template <class T, class C = compute_type<T>>
void finish_tile(const AttentionTask& task, const Tile<C>& tile) {
  const C infinity = static_cast<C>(__builtin_inf());
  C* lse = static_cast<C*>(task.lse);
  for (int row = 0; row < tile.rows; ++row) {
    C maximum = tile.maximum[row], sum = tile.sum[row];
    C factor = 1;  // from the maximum of the keys to the one that includes the sink
    const bool saw_nothing = maximum == -infinity && sum == C{0};
    if (task.sinks != nullptr && !saw_nothing) {
      const C sink = static_cast<const C*>(task.sinks)[tile.head_of[row]] * static_cast<C>(log2_e);
      const C joined = sink > maximum ? sink : maximum;
      factor = static_cast<C>(__builtin_exp2(static_cast<double>(maximum - joined)));
      sum = sum * factor + static_cast<C>(__builtin_exp2(static_cast<double>(sink - joined)));
      maximum = joined;
    }
    tile.sum[row] = saw_nothing ? C{0} : factor / sum;
    if (lse != nullptr)
      lse[row_offset(tile, row, task.lse_head_stride, task.lse_query_stride)] =
          saw_nothing ? -infinity
                      : static_cast<C>(static_cast<double>(maximum) * ln_2 + __builtin_log(static_cast<double>(sum)));
  }
  T* out = static_cast<T*>(task.out);
  scatter_transposed<T, C>(tile.rows, task.value_size, tile.accumulated, tile.sum,
                           [&](int row) __attribute__((always_inline)) {
                             return out + row_offset(tile, row, task.out_head_stride, task.out_stride);
                           });
}

template <class T, class C>
ATTNLIB_INLINE T* weights_row(const AttentionTask& task, const Tile<C>& tile, int row) {
  return static_cast<T*>(task.weights) +
         row_offset(tile, row, task.weights_head_stride, task.weights_query_stride);
}

template <class T, class C = compute_type<T>>
void clear_weights(const AttentionTask& task, const Tile<C>& tile) {
  for (int row = 0; row < tile.rows; ++row)
    __builtin_memset(weights_row<T>(task, tile, row), 0, static_cast<std::uint64_t>(task.weights_keys) * sizeof(T));
}

template <class T, class C = compute_type<T>>
void store_weights(const AttentionTask& task, const Tile<C>& tile, std::int64_t block_begin, const KeyRange& range,
                   const Workspace<C>& workspace) {
  C* scores = workspace.scores + range.shift * tile_rows<C>;
  const vec<C> nothing = broadcast<C>(-static_cast<C>(__builtin_inf()));
  for (int key = 0; key < range.last - range.first; ++key) {
    for (int v = 0; v < tile_vectors; ++v) {
      C* place = scores + key * tile_rows<C> + v * lanes<C>;
      const vec<C> maximum = load(tile.maximum + v * lanes<C>);
      const vec<C> reference = maximum == nothing ? zero<C>() : maximum;
      store(place, exp2_nonpositive(load(place) - reference));
    }
  }
  const std::int64_t first = block_begin + range.first;
  scatter_transposed<T, C>(
      tile.rows, range.last - range.first, scores, tile.sum,
      [&](int row) __attribute__((always_inline)) { return weights_row<T>(task, tile, row) + first; });
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
