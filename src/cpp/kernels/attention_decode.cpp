#include "kernels/attention_decode_algorithm.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// The products of a chunk, block after block.
template <class T>
struct BlockMultiplier {
  using Element = T;
  using C = compute_type<T>;
  using Products = DecodeProducts<T>;
  using Weight = typename Products::Weight;

  // Pointers to the rows of one block; keys outside the range get the nearest row inside, or `other`.
  static void point_to(const ChunkRows<T>& chunk, int block, const T* other, const T** pointers) {
    for (int i = 0; i < block_keys<C>; ++i) {
      const int key = block + i, first = chunk.range.first, last = chunk.range.last;
      const int inside = key < first ? first : key >= last ? last - 1 : key;
      pointers[i] = inside == key || other == nullptr ? chunk.rows + inside * chunk.stride : other;
    }
  }

  // What is fetched while a block is read.
  static BlockAhead ahead_of(const ChunkRows<T>& chunk, int block) {
    const int done = block - first_block<C>(chunk.range);
    if (done >= chunk.ahead.rows) return BlockAhead::nothing(chunk.rows + block * chunk.stride);
    return {chunk.ahead.row + done * chunk.ahead.stride, chunk.ahead.stride, chunk.ahead.width};
  }

  static void score(const ChunkRows<T>& keys, int rows, const C* query, std::int64_t head_size, C* scores) {
    for (int block = first_block<C>(keys.range); block < keys.range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(keys, block, nullptr, pointers);
      score_rows<T>(pointers, ahead_of(keys, block), rows, query, head_size, scores + block);
    }
  }

  static void add_values(const ChunkRows<T>& values, int rows, const Weight* weights, std::int64_t value_size,
                         const T* zeros, C* out) {
    for (int block = first_block<C>(values.range); block < values.range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(values, block, zeros, pointers);
      add_block_values<T>(pointers, ahead_of(values, block), rows, value_size, weights + block, out);
    }
  }

  // One row, which reads zeros where it weighs nothing.
  static void add_seen_values(const ChunkRows<T>& values, const Weight* weights, std::int64_t value_size,
                              const T* zeros, C* out) {
    for (int block = first_block<C>(values.range); block < values.range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(values, block, zeros, pointers);
      const vec<C> weight = load(weights + block);
      for (int i = 0; i < block_keys<C>; ++i)
        if (weight[i] == C{0}) pointers[i] = zeros;
      add_block_values<T>(pointers, BlockAhead::nothing(zeros), 1, value_size, weights + block, out);
    }
  }
};

}  // namespace

extern const AttentionDecodeKernels attention_decode_kernels;
constinit const AttentionDecodeKernels attention_decode_kernels = {
    .attend = {attend<BlockMultiplier<float>>, attend<BlockMultiplier<double>>, attend<BlockMultiplier<float16>>,
               attend<BlockMultiplier<bfloat16>>},
    .attend_chunk = {attend_chunk<BlockMultiplier<float>>, attend_chunk<BlockMultiplier<double>>,
                     attend_chunk<BlockMultiplier<float16>>, attend_chunk<BlockMultiplier<bfloat16>>},
    .join_chunks = {join_chunks<BlockMultiplier<float>>, join_chunks<BlockMultiplier<double>>,
                    join_chunks<BlockMultiplier<float16>>, join_chunks<BlockMultiplier<bfloat16>>},
    .partial_bytes = {bytes_of_partial<BlockMultiplier<float>>, bytes_of_partial<BlockMultiplier<double>>,
                      bytes_of_partial<BlockMultiplier<float16>>, bytes_of_partial<BlockMultiplier<bfloat16>>},
    .scratch_bytes = {scratch_bytes<BlockMultiplier<float>>, scratch_bytes<BlockMultiplier<double>>,
                      scratch_bytes<BlockMultiplier<float16>>, scratch_bytes<BlockMultiplier<bfloat16>>},
};

}  // namespace attnlib::ATTNLIB_ISA
