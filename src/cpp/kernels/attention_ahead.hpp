// What a tile of attention will soon read and write, fetched into the level-2 cache a few lines at a time between its
// products: asked for at once, or not at all, rows wait for the level-3 cache (10 to 50 % of the time with few keys).
#pragma once

#include "kernels/attention_arithmetic.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// Rows of memory, and how many bytes of them a product fetches. What is out of line here and in attention_blocks.hpp is
// asked for once a tile and block; inlined wherever that is, it made the library 60 KB larger.
class TileAhead {
 public:
  // As many sets of rows as one tile, and another one, and the keys and values of a block can be.
  static constexpr int most_sets = 2 * tile_rows<float> + 2;

  // Strides and widths in bytes here and below.
  __attribute__((noinline)) void add(const void* first, std::int64_t stride, std::int64_t rows, std::int64_t width) {
    Set& set = set_[sets_++];
    set = {static_cast<const char*>(first), stride, rows, width};
    if (stride == width) {  // one row, by pieces
      set.rows = (rows * width + piece - 1) / piece;
      set.stride = set.bytes = piece;
    }
    bytes_ += set.rows * set.bytes;
  }

  // The rows of a task's tile in an array with these strides along heads and queries: one set for each head.
  __attribute__((noinline)) void add_tile(const AttentionTask& task, std::int64_t first_row, std::int64_t rows,
                                          const void* base, std::int64_t head_stride, std::int64_t query_stride,
                                          std::int64_t width) {
    std::int64_t query = first_row / task.heads, head = first_row % task.heads;
    const std::int64_t each = rows / task.heads, left = rows % task.heads;
    for (std::int64_t i = 0; i < rows && i < task.heads; ++i) {
      add(static_cast<const char*>(base) + query * query_stride + head * head_stride, query_stride, each + (i < left),
          width);
      if (++head == task.heads) {
        head = 0;
        ++query;
      }
    }
  }

  void share_among(std::int64_t products) { share_ = products == 0 ? 0 : bytes_ / products; }
  void fetch_share() {
    for (std::int64_t left = share_; at_ < sets_; ++at_) {
      Set& set = set_[at_];
      for (; set.rows > 0; --set.rows, set.row += set.stride) {
        if (left < 0) return;
        left -= set.bytes;
#pragma GCC unroll 4
        for (std::int64_t byte = 0; byte < set.bytes; byte += line) __builtin_prefetch(set.row + byte, 0, 2);
      }
    }
  }

 private:
  static constexpr std::int64_t line = 64, piece = 4 * line;
  struct Set {
    const char* row;
    std::int64_t stride, rows, bytes;
  };
  Set set_[most_sets];
  int sets_ = 0, at_ = 0;
  std::int64_t bytes_ = 0, share_ = 0;
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
