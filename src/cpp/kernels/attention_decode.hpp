// Attention of a few rows against many keys, as in decoding: bound by reading each key and value once. The plan of
// kernels/attention.hpp lays rows into lanes and would leave most of them empty; this one lays a key's features there.
//
// Rows are numbered r = query * heads + head, as there: all query heads that share a key/value head, for all queries,
// at most `decode_rows` of them. The keys are cut into chunks of `decode_chunk` from key 0 on. For a chunk
//   S[row][key] = sum_d Q[row][d] K[key][d]   d in the lanes; a tree of adds reduces a register of such sums
//   m = max_key S,  P = 2^(S - m),  l = sum_key P               keys in the lanes
//   O[row][d] = sum_key P[row][key] V[key][d]                   d in the lanes
// in units of log2 (S is scaled by scale * log2 e), and the chunks are joined in order, from key 0:
//   m' = max(m, m_c),  l = l 2^(m - m') + l_c 2^(m_c - m'),  O likewise;  out = O / l.
//
// Within a chunk, blocks of as many keys as a register has lanes are walked: their rows of K (or V) stay in L1 for all
// blocks of 4 rows, and of what is left, that meet them.
//
// Register budget. Scores: 4 rows x 4 keys of accumulators, 4 keys, 1 query, of 32 registers (with 16: 2 keys); what
// the keys before them have become waits in memory. The tree then takes 15
// steps (two blends, a shuffle and an add) for 16 sums, where one sum after the other would take 64. Values: 4 rows x 4
// registers of columns, 4 registers of V, 1 broadcast.
//
// bfloat16, where an instruction multiplies pairs of it (attention_decode_pairs.hpp): K by pairs of features, unscaled
// and exact; V by pairs of keys, with the weights rounded to bfloat16; O is divided by the sum of the rounded ones.
//
// Where there is a matrix unit, it multiplies the same pairs (kernels/amx/attention_decode.cpp), 32 features or keys a
// step.
//
// Order. A score adds its features lane by lane, then through the tree; a chunk's output adds its keys in order (the
// matrix unit: the even and the odd ones of a step apart); chunks join in order. Keys that a row may not see weigh
// exactly 0 and chunks of such keys leave it as it was. So bits depend on the row's own keys and on nothing else, and
// whether one task walks all chunks or many share them is the same. Errors grow like sqrt(decode_chunk + chunks).
#pragma once

#include "kernels/attention.hpp"

namespace attnlib {

// The work grows with the rows, where a tile's does not: 16 rows take 3/4 of the time of the tile (float32, D 64; 2/3
// for D 128). With fewer keys than decode_least_keys only a single query is decoded: that is what generation asks for,
// and sequences that attend to themselves, padded or not, stay in one plan.
constexpr std::int64_t decode_rows = 16;
constexpr std::int64_t decode_least_keys = 64;
constexpr std::int64_t decode_chunk = 256;

// The task holds all rows (first_row is 0); its scratch is of scratch_bytes.
struct AttentionDecodeKernels {
  // All of it.
  void (*attend[dtype_count])(const AttentionTask* task) noexcept;
  // In two steps: each chunk on its own into `partials` (chunk after chunk, partial_bytes each), then all joined.
  void (*attend_chunk[dtype_count])(const AttentionTask* task, std::int64_t chunk, void* partials) noexcept;
  void (*join_chunks[dtype_count])(const AttentionTask* task, const void* partials) noexcept;
  std::int64_t (*partial_bytes[dtype_count])(std::int64_t rows, std::int64_t value_size) noexcept;
  std::int64_t (*scratch_bytes[dtype_count])(std::int64_t rows, std::int64_t head_size,
                                             std::int64_t value_size) noexcept;
};

}  // namespace attnlib
