// From global to shared memory: the threads of a block together fetch a tile of a strided matrix.
//
// A row of the tile takes `leading` elements in shared memory, a few more than it has: rows a multiple of 128 bytes
// apart would start in the same of the 32 banks, and the lanes of a warp, which read a column of rows at once, would
// have to wait for each other. What lies beyond the matrix is filled with zeros: they add nothing to a product, and
// what memory happened to hold there, be it NaN, must not.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/host_device.hpp"

namespace attnlib::cuda {

// A matrix in global memory; strides count elements.
template <class Element>
struct Matrix {
  Element* data;
  std::int64_t rows, columns;
  std::int64_t row_stride, column_stride;
  // Every row starts at a multiple of 16 bytes and lies contiguously: 16 bytes are loaded at once.
  bool wide;
};

// What a thread moves at once, if it may.
struct alignas(16) Bytes16 {
  std::uint32_t words[4];
};

// A row of `extent` elements in shared memory: padded by 16 bytes, which also keeps rows aligned for wide stores and
// for WMMA (16 bytes a row, 32 bytes a 16×16 tile).
template <class Element>
constexpr int padded(int extent) {
  return extent + 16 / static_cast<int>(sizeof(Element));
}

// The tile of `tile_rows` × `tile_columns` at (first_row, first_column). The tile's columns are a multiple of 16.
template <class Thread, class Element>
ATTNLIB_HOST_DEVICE void load_tile(const Thread& thread, const Matrix<const Element>& source, std::int64_t first_row,
                                   std::int64_t first_column, int tile_rows, int tile_columns, Element* target,
                                   int leading) {
  constexpr int piece = 16 / static_cast<int>(sizeof(Element));
  if (source.wide) {
    const int pieces = tile_columns / piece;
    for (int i = thread.index(); i < tile_rows * pieces; i += thread.count()) {
      const int row = i / pieces, column = (i - row * pieces) * piece;
      const std::int64_t left = first_row + row < source.rows ? source.columns - first_column - column : 0;
      const Element* const from = source.data + (first_row + row) * source.row_stride + first_column + column;
      Element* const to = target + row * leading + column;
      if (left >= piece) {
        *reinterpret_cast<Bytes16*>(to) = *reinterpret_cast<const Bytes16*>(from);
      } else {
        for (int k = 0; k < piece; ++k) to[k] = k < left ? from[k] : Element{};
      }
    }
    return;
  }
  // Neighbouring threads take neighbours in memory: along the rows, or, in a transposed matrix, down the columns.
  const bool down = source.row_stride == 1 && source.column_stride != 1;
  for (int i = thread.index(); i < tile_rows * tile_columns; i += thread.count()) {
    const int row = down ? i % tile_rows : i / tile_columns;
    const int column = down ? i / tile_rows : i % tile_columns;
    const bool inside = first_row + row < source.rows && first_column + column < source.columns;
    target[row * leading + column] =
        inside ? source.data[(first_row + row) * source.row_stride + (first_column + column) * source.column_stride]
               : Element{};
  }
}

// Whether `wide` holds; asked on the host, once a call. `outer` are the strides that lead to a matrix.
template <class Element>
bool rows_are_wide(const void* data, std::int64_t row_stride, std::int64_t column_stride) {
  constexpr std::int64_t piece = 16 / static_cast<std::int64_t>(sizeof(Element));
  return column_stride == 1 && row_stride % piece == 0 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
}

}  // namespace attnlib::cuda
