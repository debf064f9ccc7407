// What the matrix unit of one core can do at most: four independent sums, whose tiles stay where they are.
//
// The tiles hold numbers as products have them. With zeros, or the same number everywhere, the unit takes so little
// power that the core clocks up to a quarter higher than it does for any product.
#include "kernels/amx/matrix_unit_parts.hpp"
#include "kernels/amx/tiles.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr int operand_tiles = 4, tile_words = tile_units * tile_bytes / 2;

// number(random) makes two bytes of 16 random bits.
template <class Product, class Number>
double multiply_tiles(std::int64_t steps, int elements_of_unit, Number number) {
  alignas(64) std::uint16_t numbers[operand_tiles][tile_words];
  std::uint32_t random = 1;
  for (auto& tile : numbers)
    for (std::uint16_t& word : tile) {
      random = random * 1664525u + 1013904223u;  // Numerical Recipes' generator; the upper bits are the better ones
      word = number(static_cast<std::uint16_t>(random >> 16));
    }
  TileShapes shapes;
  shapes.apply();
  load_tile<4>(numbers[0], tile_bytes);
  load_tile<5>(numbers[1], tile_bytes);
  load_tile<6>(numbers[2], tile_bytes);
  load_tile<7>(numbers[3], tile_bytes);
  for (std::int64_t done = 0; done < steps; ++done) {
    Product::template multiply_add<0, 4, 6>();
    Product::template multiply_add<1, 4, 7>();
    Product::template multiply_add<2, 5, 6>();
    Product::template multiply_add<3, 5, 7>();
  }
  return static_cast<double>(steps) * 4 * 2 * tile_units * tile_units * tile_units * elements_of_unit;
}

}  // namespace

double ceiling_bfloat16(std::int64_t steps) noexcept {
  // Either sign, 1/2 to 2.
  return multiply_tiles<Bfloat16Tiles>(
      steps, 2, [](std::uint16_t random) { return static_cast<std::uint16_t>(0x3f00u | (random & 0x80ffu)); });
}
double ceiling_int8(std::int64_t steps) noexcept {
  return multiply_tiles<Int8Tiles>(steps, 4, [](std::uint16_t random) { return random; });
}

}  // namespace attnlib::ATTNLIB_ISA
