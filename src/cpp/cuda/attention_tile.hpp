// A tile of flash attention (Dao et al., 2022; the split over warps is that of Dao, 2023): the work of one block.
//
// Each of the block's 4 warps owns 16 queries and everything about them, so that warps meet only where keys and values
// are fetched. Where things live:
//   shared memory  the block's queries (64 × D), one block of keys and one of values (Keys × D), each warp's scores
//                  (16 × Keys, float32) and weights (the same, in the arrays' dtype, as tensor cores want them);
//   fragments      (registers, spread over a warp's lanes) the outputs (16 × Dv, float32), from the first key to the
//   last.
// For each block of keys: scores = Q·Kᵀ, to shared memory, where two lanes share a row; online softmax; outputs are
// rescaled in registers; outputs += weights · V. No more than that is ever held, however long the sequence is.
//
// The layout of a fragment is the hardware's secret: which row an element of it belongs to is found out by loading a
// tile that holds row numbers.
#pragma once

#include "cuda/attention_arguments.hpp"
#include "cuda/attention_limits.hpp"
#include "cuda/number.hpp"
#include "cuda/online_softmax.hpp"
#include "cuda/tile_loading.hpp"

namespace attnlib::cuda {

// Head: the bucket of head sizes, a multiple of 16. Product: how 16×16 tiles are multiplied (tensor_core_product.cuh,
// scalar_product.hpp).
template <class Element, class Product, int Head>
struct AttentionTile {
  static constexpr int warps = 4, rows = 16 * warps;
  // float32 with large heads takes few keys at once: 101 KB of shared memory is what every GPU since sm_80 has.
  static constexpr int keys = sizeof(Element) == 4 ? (Head > 128 ? 16 : 32) : (Head > 128 ? 32 : 64);
  static constexpr int head_leading = padded<Element>(Head), score_leading = padded<float>(keys),
                       weight_leading = padded<Element>(keys);

  struct Shared {
    alignas(32) Element query[rows * head_leading];
    alignas(32) Element key[keys * head_leading];
    alignas(32) Element value[keys * head_leading];
    alignas(32) Element weights[warps][16 * weight_leading];
    alignas(32) float scores[warps][16 * score_leading];
    float factors[warps][16];
  };

  using Accumulator = typename Product::Accumulator;
  static constexpr int chunks = Head / 16;

  template <class Thread>
  ATTNLIB_HOST_DEVICE static void run(const Thread& thread, Shared& shared, const AttentionArguments& call) {
    const std::int64_t query_tiles = (call.queries + rows - 1) / rows;
    // The last tiles, which see most keys when causal, start first.
    const std::int64_t first_row = (query_tiles - 1 - thread.block() % query_tiles) * rows;
    const std::int64_t head = thread.block() / query_tiles % call.heads;
    const std::int64_t batch = thread.block() / query_tiles / call.heads;
    const std::int64_t group = head / call.heads_per_group;
    std::int64_t at[5];
    call.batch.offsets(batch, at);
    AttentionLimits limits{call.queries, call.keys, call.causal};
    if (call.key_lengths != nullptr) limits.keys = call.key_lengths[at[4]];

    const auto matrix = [](const void* data, std::int64_t offset, std::int64_t count, int columns,
                           const std::int64_t* strides, bool wide) {
      return Matrix<const Element>{
          static_cast<const Element*>(data) + offset, count, columns, strides[1], strides[2], wide};
    };
    const auto query = matrix(call.query, at[0] + head * call.query_strides[0], call.queries, call.head_size,
                              call.query_strides, call.query_wide);
    // Keys and values beyond the valid ones are read as zeros.
    const auto key = matrix(call.key, at[1] + group * call.key_strides[0], limits.keys, call.head_size,
                            call.key_strides, call.key_wide);
    const auto value = matrix(call.value, at[2] + group * call.value_strides[0], limits.keys, call.value_size,
                              call.value_strides, call.value_wide);
    const int head_chunks = (call.head_size + 15) / 16, value_chunks = (call.value_size + 15) / 16;

    load_tile(thread, query, first_row, 0, rows, 16 * head_chunks, shared.query, head_leading);
    const int warp = thread.warp();
    float* const scores = shared.scores[warp];
    Element* const weights = shared.weights[warp];
    float* const factors = shared.factors[warp];

    int row_of[Product::elements];
    for (int i = thread.lane(); i < 256; i += 32) scores[i / 16 * score_leading + i % 16] = static_cast<float>(i / 16);
    thread.sync_warp();
    {
      Accumulator numbers;
      Product::load(thread, numbers, scores, score_leading);
      ATTNLIB_UNROLL
      for (int i = 0; i < Product::elements; ++i) row_of[i] = static_cast<int>(Product::element(numbers, i));
    }

    Accumulator out[chunks];
    ATTNLIB_UNROLL
    for (int chunk = 0; chunk < chunks; ++chunk) Product::clear(out[chunk]);
    OnlineSoftmax softmax;  // of row lane / 2, in both of its lanes
    const int row = thread.lane() / 2, half = thread.lane() % 2;
    const std::int64_t key_end = limits.key_end(first_row + 16 * warp + row);

    const std::int64_t blocks = limits.key_blocks(first_row, rows, keys);
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t first_key = block * keys;
      thread.sync_block();  // nobody reads the block before any more
      load_tile(thread, key, first_key, 0, keys, 16 * head_chunks, shared.key, head_leading);
      load_tile(thread, value, first_key, 0, keys, 16 * value_chunks, shared.value, head_leading);
      thread.sync_block();

      {
        Accumulator products[keys / 16];
        ATTNLIB_UNROLL
        for (int n = 0; n < keys / 16; ++n) Product::clear(products[n]);
        for (int d = 0; d < head_chunks; ++d) {
          typename Product::Left left;
          Product::load(thread, left, shared.query + 16 * warp * head_leading + 16 * d, head_leading);
          ATTNLIB_UNROLL
          for (int n = 0; n < keys / 16; ++n) {
            typename Product::RightTransposed right;
            Product::load(thread, right, shared.key + 16 * n * head_leading + 16 * d, head_leading);
            Product::multiply_add(thread, products[n], left, right);
          }
        }
        ATTNLIB_UNROLL
        for (int n = 0; n < keys / 16; ++n) Product::store(thread, scores + 16 * n, score_leading, products[n]);
      }
      thread.sync_warp();

      // Two lanes a row, each with every second key.
      float* const own = scores + row * score_leading;
      float maximum = ATTNLIB_MINUS_INFINITY;
      for (int j = half; j < keys; j += 2) {
        const float score = first_key + j < key_end ? own[j] * call.scale : ATTNLIB_MINUS_INFINITY;
        own[j] = score;
        maximum = larger(maximum, score);
      }
      maximum = larger(maximum, thread.shuffle_xor(maximum, 1));
      const float factor = softmax.raise(maximum);
      float sum = 0;
      for (int j = half; j < keys; j += 2) {
        const float weight = softmax.exponential(own[j]);
        sum += weight;
        store_number(weights + row * weight_leading + j, weight);
      }
      softmax.sum += sum + thread.shuffle_xor(sum, 1);
      if (half == 0) factors[row] = factor;
      thread.sync_warp();

      scale_rows(out, factors, row_of);
      ATTNLIB_ROLLED
      for (int n = 0; n < keys / 16; ++n) {
        typename Product::Left left;
        Product::load(thread, left, weights + 16 * n, weight_leading);
        ATTNLIB_UNROLL
        for (int chunk = 0; chunk < chunks; ++chunk) {
          if (chunk >= value_chunks) continue;
          typename Product::Right right;
          Product::load(thread, right, shared.value + 16 * n * head_leading + 16 * chunk, head_leading);
          Product::multiply_add(thread, out[chunk], left, right);
        }
      }
      thread.sync_warp();  // scores, weights and factors are about to be written again
    }

    if (half == 0) factors[row] = softmax.inverse_sum();
    thread.sync_warp();
    scale_rows(out, factors, row_of);
    Element* const target = static_cast<Element*>(call.out) + at[3] + head * call.out_strides[0];
    ATTNLIB_UNROLL
    for (int chunk = 0; chunk < chunks; ++chunk) {
      if (chunk >= value_chunks) continue;
      Product::store(thread, scores, score_leading, out[chunk]);
      thread.sync_warp();
      for (int i = thread.lane(); i < 256; i += 32) {
        const std::int64_t r = first_row + 16 * warp + i / 16;
        const int column = 16 * chunk + i % 16;
        if (r < call.queries && column < call.value_size)
          store_number(target + r * call.out_strides[1] + column * call.out_strides[2],
                       scores[i / 16 * score_leading + i % 16]);
      }
      thread.sync_warp();
    }
  }

  ATTNLIB_HOST_DEVICE static void scale_rows(Accumulator (&out)[chunks], const float* factors,
                                             const int (&row_of)[Product::elements]) {
    float factor[Product::elements];
    ATTNLIB_UNROLL
    for (int i = 0; i < Product::elements; ++i) factor[i] = factors[row_of[i]];
    ATTNLIB_UNROLL
    for (int chunk = 0; chunk < chunks; ++chunk) {
      ATTNLIB_UNROLL
      for (int i = 0; i < Product::elements; ++i) Product::element(out[chunk], i) *= factor[i];
    }
  }
};

}  // namespace attnlib::cuda
