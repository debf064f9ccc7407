// Scaled dot-product attention, tiled, with the softmax computed on the way (online), after T. Dao et al.,
// "FlashAttention" (2022, arXiv:2205.14135), turned on its side: queries lie in the vector lanes.
//
// Rows. The query heads that share a key/value head form a group; its rows are numbered r = query * heads + head, so
// that neighbouring rows have neighbouring positions whatever the number of heads. A tile is `tile_rows` rows (two
// registers of lanes); a task is up to `attention_tiles_per_task` tiles, which walk the keys together, block by block,
// so that a block of keys and values is fetched once for all of them.
//
// For a tile and a block of `key_block` keys, with S in units of log2 (the query is scaled by scale * log2 e):
//   S[key][row]  = sum_d K[key][d] Q[d][row]            K read where it lies, one broadcast at a time
//   m' = max(m, max_key S),  P = 2^(S - m'),  l = l 2^(m - m') + sum_key P      down the keys: no horizontal steps
//   O[d][row]    = O[d][row] 2^(m - m') + sum_key V[key][d] P[key][row]         V likewise a broadcast
// and at the end out = O / l, transposed back. Q and O are kept transposed, [d][row].
//
// bfloat16, where an instruction multiplies pairs of it (attention_arithmetic.hpp): the same tiles with two elements of
// the reduction a step; scores, not queries, are scaled. Q is [d / 2][row][2], K is read in place as pairs of features;
// P is rounded to bfloat16 and kept as [key / 2][row][2], V is interleaved to [key / 2][d][2] once for all tiles of the
// task. O is divided by the sum of the rounded P: a rounding of at most 2^-9 for each weight, which many keys average
// away; so P is computed to 2^-12, and m follows the maximum only where a score exceeds it by 2^8
// (attention_weights.hpp).
//
// Where there is a matrix unit, it multiplies the same pairs (kernels/amx/), and O is summed up in the unit, block
// after block.
//
// Register budget. A tile of R keys (or R value columns) and 2 registers of rows keeps 2R accumulators; a step loads 2
// registers and R broadcasts for 2R multiply-adds: 8 x 2 of 32 registers (D of 64 is 8 tiles; 12 x 2 was no faster), 6
// x 2 of 16.
//
// Order. Every score is one accumulator over d; every output element adds up the keys of a block in
// order, and the blocks in order from key 0, rescaled in between. Rows never meet; blocks that a row may not see leave
// it as it was, to the bit (they multiply by 2^0 and add 0). So bits depend on the row's own keys, and on nothing else.
//
// Removed keys. S is replaced by -inf whatever it was, so P is exactly 0; where a block has removed keys and its values
// are not all finite, a weight of 0 takes nothing. So NaN or inf in keys and values reaches only the rows that see
// them.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// Each task reads all keys and values that its rows see, from the level-3 cache if they are many. More would exceed the
// level-2 cache with large heads.
constexpr std::int64_t attention_tiles_per_task = 16;

// Strides in elements; query, key, value, bias, out and weights are of the task's type and contiguous along their last
// axis, slopes, sinks and lse of its compute type.
struct AttentionTask {
  std::int64_t heads, keys, head_size, value_size;
  std::int64_t first_row, rows;

  const void* query;
  std::int64_t query_head_stride, query_stride;
  const AttentionTask* next;  // after this one, or null: what it reads first is fetched meanwhile
  const void* key;
  std::int64_t key_stride;
  const void* value;
  std::int64_t value_stride;
  void* out;
  std::int64_t out_head_stride, out_stride;

  double scale;
  double softcap;  // 0: none
  // Row at query i sees keys j with i + left_offset <= j <= i + right_offset (and 0 <= j < keys).
  std::int64_t left_offset, right_offset;
  std::int64_t query_offset;  // position of query 0, for slopes
  const bool* mask;           // or null
  std::int64_t mask_head_stride, mask_query_stride, mask_key_stride;
  const void* bias;  // or null
  std::int64_t bias_head_stride, bias_query_stride, bias_key_stride;
  const void* slopes;  // (heads,) or null
  const void* sinks;   // (heads,) or null

  void* weights;  // or null; `weights_keys` entries a row
  std::int64_t weights_head_stride, weights_query_stride, weights_keys;
  void* lse;  // or null
  std::int64_t lse_head_stride, lse_query_stride;

  void* scratch;  // scratch_bytes of it, aligned to 64
};

// Partial results over disjoint sets of keys, all dense: outs[part][row][width], lses[part][row] -> out, lse.
struct MergeTask {
  std::int64_t parts, rows, width;
  const void* outs;
  std::int64_t out_part_stride;
  const void* lses;  // compute type
  std::int64_t lse_part_stride;
  void* out;
  void* lse;
};

struct AttentionKernels {
  std::int64_t tile_rows[2];  // by the compute type: float, double
  void (*attend[dtype_count])(const AttentionTask* task) noexcept;
  void (*merge[dtype_count])(const MergeTask* task) noexcept;
  std::int64_t (*scratch_bytes[dtype_count])(std::int64_t head_size, std::int64_t value_size) noexcept;
};

}  // namespace attnlib
