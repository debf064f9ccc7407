// Decoding reads keys and values once, from memory: what is fetched of those to come, while others are multiplied. The
// products meet 4 rows at a time, which the processor's prefetchers do not follow, and many requests at once would have
// the loads wait behind them: so one line is asked for with each that is read.
#pragma once

#include <cstdint>

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// Rows to come, line by line in the order in which they lie; to the level-1 cache, for a matrix unit.
struct RowsAhead {
  const char* row;
  std::int64_t stride, width;  // in bytes
  std::int64_t rows;           // from `row` on
  std::int64_t byte = 0;

  // To be called once for so many bytes that are read.
  void fetch(int bytes) {
    __builtin_prefetch(row + byte, 0, 3);
    byte += bytes;
    if (byte < width) return;
    byte = 0;
    if (rows == 1) return;
    row += stride;
    --rows;
  }
};

// What a product fetches meanwhile for each register that it reads, at addresses that need no counting: of dense rows,
// line after line; of others, scores take a line from each row that is read together, values those of a row.
struct LinesAhead {
  const char* place;
  std::int64_t of_a_line, of_a_step;

  template <int Lines>
  void fetch() {
#pragma GCC unroll 4
    for (int line = 0; line < Lines; ++line) __builtin_prefetch(place + line * of_a_line, 0, 2);
    place += of_a_step;
  }
};

// The rows of a block that is fetched while another one is read. Where nothing is to be fetched, one line that is in
// the level-1 cache is asked for again and again: a branch in each step would cost more.
struct BlockAhead {
  const char* rows;
  std::int64_t stride, width;  // in bytes; both 0 where nothing is to be fetched

  static BlockAhead nothing(const void* near) { return {static_cast<const char*>(near), 0, 0}; }

  // As many lines a step as there are rows that are read together, from `row` on.
  template <int Rows, int Bytes>
  LinesAhead rows_from(int row) const {
    const char* const place = rows + row * stride;
    if (width == 0) return {place, 0, 0};
    return stride == width ? LinesAhead{place, Bytes, Rows * Bytes} : LinesAhead{place, stride, Bytes};
  }
  // `Bytes` of the columns from `byte` on a step, which takes one of all `Block` rows.
  template <int Block, int Bytes, int Line>
  LinesAhead columns_from(std::int64_t byte) const {
    if (width == 0) return {rows, 0, 0};
    return stride == width ? LinesAhead{rows + byte * Block, Line, Bytes} : LinesAhead{rows + byte, Line, stride};
  }
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
