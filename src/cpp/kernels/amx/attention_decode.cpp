// Decoding of bfloat16 by the matrix unit: kernels/attention_decode_algorithm.hpp with chunks that are multiplied
// in tiles.
//   S = K Q:  16 keys are the left side, their features as they lie; queries [d / 2][row][2] the right one
//   O = P V:  weights [row][key] are the left side as they lie; values [key / 2][column][2], interleaved on the way,
//   the right one
// Tiles 0 and 1 are the scores of 32 keys, 2 a left side of 16 rows, 3 the right side of either product; 4 and 5 are
// sums of 32 columns and 6 weights, which have as many rows as there are queries.
//
// Features and columns come in steps of 32: other sizes are decoded by the rung that this one extends.
#include "kernels/amx/matrix_unit_parts.hpp"
#include "kernels/amx/tiles.hpp"
#include "kernels/attention_decode_algorithm.hpp"
#include "kernels/simd/transpose.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr int step_elements = 2 * tile_units;  // along a reduction
static_assert(step_elements == matrix_decode_step);
static_assert(decode_rows == tile_units && decode_chunk % (2 * step_elements) == 0);

struct TileDecodeProducts : DecodeProducts<bfloat16> {
  static constexpr int keys_ahead = 32;
  // Queries in units of pairs, [d / 2][16 rows]: zeros where there are fewer.
  static constexpr std::int64_t query_elements(std::int64_t, std::int64_t head_size) {
    return head_size / 2 * tile_units;
  }
  static void clear_queries(std::int64_t rows, std::int64_t head_size, C* all) {
    __builtin_memset(all, 0, static_cast<std::uint64_t>(query_elements(rows, head_size)) * sizeof(C));
  }
  static void stage_query(const bfloat16* query, std::int64_t head_size, C, int row, C* all) {
    for (std::int64_t pair = 0; pair < head_size / 2; ++pair)
      __builtin_memcpy(all + pair * tile_units + row, query + 2 * pair, sizeof(C));
  }
};

struct TileMultiplier {
  using Element = bfloat16;
  using C = float;
  using Products = TileDecodeProducts;
  using Weight = bfloat16;

  static void score(ChunkRows<bfloat16> keys, int rows, const C* query, std::int64_t head_size, C* scores) {
    for (int block = keys.range.first / step_elements * step_elements; block < keys.range.last;
         block += step_elements) {
      alignas(64) C sums[step_elements][tile_units];
      multiply_keys(keys, block, query, head_size, sums);
      for (int half = 0; half < step_elements; half += tile_units) {
        vec<C> by_row[tile_units];
#pragma GCC unroll 16
        for (int key = 0; key < tile_units; ++key) by_row[key] = load(sums[half + key]);
        transpose<C>(by_row);
        for (int row = 0; row < rows; ++row) store(scores + row * decode_chunk + block + half, by_row[row]);
      }
    }
  }

  static void add_values(const ChunkRows<bfloat16>& values, int rows, Weight* weights, std::int64_t value_size,
                         const bfloat16* zeros, C* out) {
    clear_other_weights(values.range, rows, weights);
    add(values, weights, decode_chunk * 2, value_size, out, Products::out_elements(value_size) * 4,
        [&](int key) __attribute__((always_inline)) {
          return key >= values.range.first && key < values.range.last ? values.rows + key * values.stride : zeros;
        });
  }

  // One row, which is read as all rows of a tile, and the sums written one over the other.
  static void add_seen_values(const ChunkRows<bfloat16>& values, Weight* weights, std::int64_t value_size,
                              const bfloat16* zeros, C* out) {
    clear_other_weights(values.range, 1, weights);
    add(values, weights, 0, value_size, out, 0, [&](int key) __attribute__((always_inline)) {
      const bool none = key < values.range.first || key >= values.range.last || (weights[key].bits & 0x7fff) == 0;
      return none ? zeros : values.rows + key * values.stride;
    });
  }

 private:
  static constexpr int values_together = 2 * step_elements;

  // Weights of keys that are multiplied together with some of the range, but lie in no block of it: nobody made them.
  static void clear_other_weights(const ChunkRange& range, int rows, Weight* weights) {
    const auto clear = [&](int first, int last) {
      for (int row = 0; first < last && row < rows; ++row)
        __builtin_memset(weights + row * decode_chunk + first, 0,
                         static_cast<std::uint64_t>(last - first) * sizeof(Weight));
    };
    const int begin = first_block<C>(range), end = (range.last + block_keys<C> - 1) / block_keys<C> * block_keys<C>;
    clear(begin / values_together * values_together, begin);
    clear(end, (end + values_together - 1) / values_together * values_together);
  }

  static void multiply_keys(ChunkRows<bfloat16>& keys, int block, const C* query, std::int64_t head_size,
                            C (*sums)[tile_units]) {
    alignas(64) bfloat16 staged[step_elements][step_elements];
    const bool whole = block >= keys.range.first && block + step_elements <= keys.range.last;
    RowsAhead ahead = keys.ahead;
    zero_tile<0>(), zero_tile<1>();
    for (std::int64_t d = 0; d < head_size; d += step_elements) {
      const bfloat16* left = keys.rows + block * keys.stride + d;
      std::int64_t left_bytes = keys.stride * 2;
      if (!whole) {
        stage(keys, block, d, staged);
        left = staged[0];
        left_bytes = sizeof staged[0];
      }
      load_tile<3>(query + d / 2 * tile_units, tile_bytes);
      load_tile<2>(left, left_bytes);
      Bfloat16Tiles::multiply_add<0, 2, 3>();
      fetch(ahead, tile_units);
      load_tile<2>(reinterpret_cast<const char*>(left) + tile_units * left_bytes, left_bytes);
      Bfloat16Tiles::multiply_add<1, 2, 3>();
      fetch(ahead, tile_units);
    }
    keys.ahead = ahead;
    store_tile<0>(sums, tile_bytes);
    store_tile<1>(sums[tile_units], tile_bytes);
  }

  // 32 features of the keys of a block, zeros for those out of the range.
  static void stage(const ChunkRows<bfloat16>& keys, int block, std::int64_t d, bfloat16 (*staged)[step_elements]) {
    for (int i = 0; i < step_elements; ++i) {
      const int key = block + i;
      const u32v pairs =
          key >= keys.range.first && key < keys.range.last ? load_pairs(keys.rows + key * keys.stride + d) : u32v{};
      __builtin_memcpy(staged[i], &pairs, sizeof pairs);
    }
  }

  template <class RowOf>
  ATTNLIB_INLINE void add(const ChunkRows<bfloat16>& values, const Weight* weights, std::int64_t weight_bytes,
                          std::int64_t value_size, C* out, std::int64_t out_bytes, RowOf row_of) {
    RowsAhead ahead = values.ahead;
    for (int block = values.range.first / values_together * values_together; block < values.range.last;
         block += values_together) {
      const bfloat16* rows[values_together];
      for (int i = 0; i < values_together; ++i) rows[i] = row_of(block + i);
      for (std::int64_t column = 0; column < value_size; column += step_elements) {
        alignas(64) u32v pairs[2][values_together / 2];  // [columns as load_sums has them][key / 2]
        for (int i = 0; i < values_together; i += 2) {
          const PairsOfRows both = interleave_within(load_pairs(rows[i] + column), load_pairs(rows[i + 1] + column));
          pairs[0][i / 2] = both.low;
          pairs[1][i / 2] = both.high;
          fetch(ahead, 2);
        }
        load_tile<4>(out + column, out_bytes);
        load_tile<5>(out + column + tile_units, out_bytes);
        for (int key = 0; key < values_together; key += step_elements) {
          load_tile<6>(weights + block + key, weight_bytes);
          load_tile<3>(&pairs[0][key / 2], tile_bytes);
          Bfloat16Tiles::multiply_add<4, 6, 3>();
          load_tile<3>(&pairs[1][key / 2], tile_bytes);
          Bfloat16Tiles::multiply_add<5, 6, 3>();
        }
        store_tile<4>(out + column, out_bytes);
        store_tile<5>(out + column + tile_units, out_bytes);
      }
    }
  }

  // To the level-1 cache: tiles are read a row after the other.
  ATTNLIB_INLINE void fetch(RowsAhead& ahead, int lines) {
    for (int i = 0; i < lines; ++i) ahead.fetch(tile_bytes);
  }
};

// The shapes of the tiles that have as many rows as there are queries.
class DecodeShapes : TileShapes {
 public:
  explicit DecodeShapes(const AttentionTask& task) {
    for (int tile = 4; tile <= 6; ++tile) set_rows(tile, static_cast<int>(task.rows));
    apply();
  }
};

void attend_few(const AttentionTask* task) noexcept {
  const DecodeShapes shapes(*task);
  attend<TileMultiplier>(task);
}
void attend_few_in_chunk(const AttentionTask* task, std::int64_t chunk, void* partials) noexcept {
  const DecodeShapes shapes(*task);
  attend_chunk<TileMultiplier>(task, chunk, partials);
}

void join_few(const AttentionTask* task, const void* partials) noexcept {
  const DecodeShapes shapes(*task);  // weights are made of scores once more
  join_chunks<TileMultiplier>(task, partials);
}

}  // namespace

constinit const AttentionDecodeKernels matrix_unit_decode_kernels = {
    .attend = {nullptr, nullptr, nullptr, attend_few},
    .attend_chunk = {nullptr, nullptr, nullptr, attend_few_in_chunk},
    .join_chunks = {nullptr, nullptr, nullptr, join_few},
    .partial_bytes = {nullptr, nullptr, nullptr, bytes_of_partial<TileMultiplier>},
    .scratch_bytes = {nullptr, nullptr, nullptr, scratch_bytes<TileMultiplier>},
};

}  // namespace attnlib::ATTNLIB_ISA
