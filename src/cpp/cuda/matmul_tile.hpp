// A tile of a matrix product: the work of one block of 8 warps.
//
// The block computes 128 × 128 elements of out; its warps stand in 4 rows and 2 columns, each with 32 × 64 elements in
// 2 × 4 fragments (64 registers a lane). 32 columns of a and rows of b at a time are fetched into shared memory. Each
// output element is one accumulator that runs up k from 0.
#pragma once

#include "cuda/leading_axes.hpp"
#include "cuda/number.hpp"
#include "cuda/tile_loading.hpp"

namespace attnlib::cuda {

// Strides are those of (row, column), in elements.
struct MatmulArguments {
  const void* a;  // (..., M, K)
  const void* b;  // (..., K, N)
  void* out;      // (..., M, N)
  std::int64_t a_strides[2], b_strides[2], out_strides[2];
  LeadingAxes<3> batch;  // a, b, out
  std::int64_t batches, rows, columns, depth;
  bool a_wide, b_wide;  // see Matrix::wide
};

template <class Element, class Product>
struct MatmulTile {
  static constexpr int warps = 8, rows = 128, columns = 128, depth = 32;
  static constexpr int a_leading = padded<Element>(depth), b_leading = padded<Element>(columns), out_leading = 20;

  struct Shared {
    alignas(32) Element a[rows * a_leading];
    alignas(32) Element b[depth * b_leading];
    alignas(32) float out[warps][16 * out_leading];
  };

  template <class Thread>
  ATTNLIB_HOST_DEVICE static void run(const Thread& thread, Shared& shared, const MatmulArguments& call) {
    const std::int64_t row_tiles = (call.rows + rows - 1) / rows, column_tiles = (call.columns + columns - 1) / columns;
    const std::int64_t first_column = thread.block() % column_tiles * columns;
    const std::int64_t first_row = thread.block() / column_tiles % row_tiles * rows;
    std::int64_t at[3];
    call.batch.offsets(thread.block() / column_tiles / row_tiles, at);
    const Matrix<const Element> a{static_cast<const Element*>(call.a) + at[0],
                                  call.rows,
                                  call.depth,
                                  call.a_strides[0],
                                  call.a_strides[1],
                                  call.a_wide};
    const Matrix<const Element> b{static_cast<const Element*>(call.b) + at[1],
                                  call.depth,
                                  call.columns,
                                  call.b_strides[0],
                                  call.b_strides[1],
                                  call.b_wide};

    const int warp_row = thread.warp() / 2 * 32, warp_column = thread.warp() % 2 * 64;
    typename Product::Accumulator tile[2][4];
    ATTNLIB_UNROLL
    for (int m = 0; m < 2; ++m) {
      ATTNLIB_UNROLL
      for (int n = 0; n < 4; ++n) Product::clear(tile[m][n]);
    }
    for (std::int64_t k = 0; k < call.depth; k += depth) {
      load_tile(thread, a, first_row, k, rows, depth, shared.a, a_leading);
      load_tile(thread, b, k, first_column, depth, columns, shared.b, b_leading);
      thread.sync_block();
      ATTNLIB_UNROLL
      for (int step = 0; step < depth; step += 16) {
        typename Product::Left left[2];
        ATTNLIB_UNROLL
        for (int m = 0; m < 2; ++m)
          Product::load(thread, left[m], shared.a + (warp_row + 16 * m) * a_leading + step, a_leading);
        ATTNLIB_UNROLL
        for (int n = 0; n < 4; ++n) {
          typename Product::Right right;
          Product::load(thread, right, shared.b + step * b_leading + warp_column + 16 * n, b_leading);
          ATTNLIB_UNROLL
          for (int m = 0; m < 2; ++m) Product::multiply_add(thread, tile[m][n], left[m], right);
        }
      }
      thread.sync_block();
    }

    // By way of shared memory, where it is known which element is where.
    float* const staged = shared.out[thread.warp()];
    Element* const target = static_cast<Element*>(call.out) + at[2];
    ATTNLIB_UNROLL
    for (int m = 0; m < 2; ++m) {
      ATTNLIB_UNROLL
      for (int n = 0; n < 4; ++n) {
        Product::store(thread, staged, out_leading, tile[m][n]);
        thread.sync_warp();
        for (int i = thread.lane(); i < 256; i += 32) {
          const std::int64_t row = first_row + warp_row + 16 * m + i / 16;
          const std::int64_t column = first_column + warp_column + 16 * n + i % 16;
          if (row < call.rows && column < call.columns)
            store_number(target + row * call.out_strides[0] + column * call.out_strides[1],
                         staged[i / 16 * out_leading + i % 16]);
        }
        thread.sync_warp();
      }
    }
  }
};

}  // namespace attnlib::cuda
