// AMX: eight tiles of 16 rows of 64 bytes, and a unit that multiplies them. sum[m][n] += left[m][k] right[k][n], where
// a row of `left` is 16 units along the reduction and a row of `right` is the units k of 16 columns: two bfloat16, or
// four bytes, to a unit, as rows and panels of products have them (kernels/matmul.hpp). 16 x 16 x 16 units take 16
// cycles.
//
// By assembly: the compilers' own intrinsics do not say that they read memory. Tiles are named by number, as nothing
// allots them; a kernel says which is which. bfloat16: subnormal numbers count as zero, and the even and the odd
// elements of a row are summed apart, rounding once each; zeros add nothing.
#pragma once

#include <cstdint>

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr int tile_units = 16;  // rows of a tile, and units in one
constexpr int tile_bytes = 64;  // of a row

template <int Tile>
inline __attribute__((always_inline)) void load_tile(const void* rows, std::int64_t bytes_between) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(bytes_between), "i"(Tile) : "memory");
}
// What is not needed again before the level-1 cache is full of other things: it is not to drive these out.
template <int Tile>
inline __attribute__((always_inline)) void load_passing_tile(const void* rows, std::int64_t bytes_between) {
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(bytes_between), "i"(Tile) : "memory");
}
template <int Tile>
inline __attribute__((always_inline)) void store_tile(void* rows, std::int64_t bytes_between) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(bytes_between), "i"(Tile) : "memory");
}
template <int Tile>
inline __attribute__((always_inline)) void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(Tile));
}

struct Bfloat16Tiles {
  using SumElement = float;
  template <int Sum, int Left, int Right>
  static inline __attribute__((always_inline)) void multiply_add() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(Left), "i"(Right));
  }
};
// Bytes without sign on the left, with sign on the right.
struct Int8Tiles {
  using SumElement = std::int32_t;
  template <int Sum, int Left, int Right>
  static inline __attribute__((always_inline)) void multiply_add() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(Left), "i"(Right));
  }
};

// The shapes of the tiles, as the unit wants to be told. A thread tells before its first tile and lets go after its
// last: what tiles hold would be saved on every switch of threads.
class TileShapes {
 public:
  TileShapes() = default;
  ~TileShapes() { asm volatile("tilerelease"); }
  TileShapes(const TileShapes&) = delete;
  TileShapes& operator=(const TileShapes&) = delete;

  void set_rows(int tile, int rows) { words_.rows[tile] = static_cast<std::uint8_t>(rows); }
  // All tiles are zeros afterwards.
  void apply() const { asm volatile("ldtilecfg %0" ::"m"(words_)); }

 private:
  struct alignas(64) Words {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  Words words_;
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
