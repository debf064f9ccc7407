// What the matrix unit of one core can do at most: four independent sums, whose tiles stay where they are.
#include "kernels/amx/matrix_unit_parts.hpp"
#include "kernels/amx/tiles.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

template <class Product>
double multiply_tiles(std::int64_t steps, int elements_of_unit) {
  TileShapes shapes;
  shapes.apply();
  for (std::int64_t done = 0; done < steps; ++done) {
    Product::template multiply_add<0, 4, 6>();
    Product::template multiply_add<1, 4, 7>();
    Product::template multiply_add<2, 5, 6>();
    Product::template multiply_add<3, 5, 7>();
  }
  return static_cast<double>(steps) * 4 * 2 * tile_units * tile_units * tile_units * elements_of_unit;
}

}  // namespace

double ceiling_bfloat16(std::int64_t steps) noexcept { return multiply_tiles<Bfloat16Tiles>(steps, 2); }
double ceiling_int8(std::int64_t steps) noexcept { return multiply_tiles<Int8Tiles>(steps, 4); }

}  // namespace attnlib::ATTNLIB_ISA
