// Matrix products by tiles. Panels of units (kernels/matmul.hpp) are what tiles are loaded from, as they lie: 16 units
// of 16 of the panel's 48 columns. Rows are arranged first (arrange_rows): in groups of 32, and in a group step after
// step, 64 bytes of each row, so that a tile of rows is 1 KB without gaps. Wherever rows of an array lie, half of such
// pieces would go across two cache lines, and several of a tile into the same set of a cache.
//
// Tile budget: 2 x 3 sums, one tile of rows and one of columns, which take turns so that a step of 16 units loads seven
// tiles for its six products (56 cycles of the load ports for 96 of the unit).
//
// Caches. A panel that the level-1 cache can hold stays there while the block's rows pass by: these are loaded past it.
//
// Epilogue. The unit works beside the vectors, if there is something for both among the few hundred instructions that
// the CPU looks at: the sums of a group wait until the next one is multiplied, and between its steps they become
// results.
//
// Order. A step adds the sum of its 16 units to the sum so far, step after step: the same bits whichever group of rows,
// block or thread computes an element. int8: exact, as everywhere.
//
// Rows. A group of 17 to 32 rows is two tiles of half as many; where they are odd, one row is in both and comes out the
// same twice.
//
// A last step of fewer than 16 units: rows end with zeros, and the panel's part, after which comes another panel, is
// copied.
#include "kernels/amx/matrix_unit_parts.hpp"
#include "kernels/amx/tiles.hpp"
#include "kernels/matmul_int8_values.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr int group_rows = matrix_group_rows;
static_assert(group_rows == 2 * tile_units);
constexpr std::int64_t rows_at_once = 4;        // of the epilogue: fewer do not repay what it begins with
constexpr std::int64_t small_panel = 40 << 10;  // bytes that the level-1 cache holds beside sums and results
constexpr std::int64_t group_step_bytes = group_rows * std::int64_t{tile_bytes};
constexpr std::int64_t panel_row_bytes = panel_width<float> * std::int64_t{4};
static_assert(panel_width<float> == 3 * tile_units);

using Bytes = const char*;

// A group of rows: how many tiles, of how many rows, and which row is the second one's first.
template <int Tiles>
struct RowGroup {
  int tile_rows, second;
};

template <int Tiles>
ATTNLIB_INLINE void begin_sums(RowGroup<Tiles>) {
  zero_tile<0>(), zero_tile<1>(), zero_tile<2>();
  if constexpr (Tiles == 2) zero_tile<3>(), zero_tile<4>(), zero_tile<5>();
}

// sums += left * panel, step after step: tiles 0 to 2 for the first rows, 3 to 5 for the second ones. beside(step) is
// for what the vectors can do while the unit multiplies.
template <class Product, bool RowsPassing, int Tiles, class Beside>
ATTNLIB_INLINE void add_steps(RowGroup<Tiles> group, Bytes left, Bytes panel, std::int64_t steps, Beside beside) {
  const auto load_rows = [=](Bytes rows) __attribute__((always_inline)) {
    if constexpr (RowsPassing)
      load_passing_tile<6>(rows, tile_bytes);
    else
      load_tile<6>(rows, tile_bytes);
  };
  for (std::int64_t step = 0; step < steps; ++step) {
    beside(step);
    load_rows(left);
    load_tile<7>(panel, panel_row_bytes);
    Product::template multiply_add<0, 6, 7>();
    load_tile<7>(panel + tile_bytes, panel_row_bytes);
    Product::template multiply_add<1, 6, 7>();
    load_tile<7>(panel + 2 * tile_bytes, panel_row_bytes);
    Product::template multiply_add<2, 6, 7>();
    if constexpr (Tiles == 2) {
      load_rows(left + group.second * tile_bytes);
      Product::template multiply_add<5, 6, 7>();
      load_tile<7>(panel + tile_bytes, panel_row_bytes);
      Product::template multiply_add<4, 6, 7>();
      load_tile<7>(panel, panel_row_bytes);
      Product::template multiply_add<3, 6, 7>();
    }
    left += group_step_bytes;
    panel += tile_units * panel_row_bytes;
  }
}

template <int Tiles>
ATTNLIB_INLINE void end_sums(RowGroup<Tiles> group, char* sums) {
  store_tile<0>(sums, panel_row_bytes);
  store_tile<1>(sums + tile_bytes, panel_row_bytes);
  store_tile<2>(sums + 2 * tile_bytes, panel_row_bytes);
  if constexpr (Tiles == 2) {
    sums += group.second * panel_row_bytes;
    store_tile<3>(sums, panel_row_bytes);
    store_tile<4>(sums + tile_bytes, panel_row_bytes);
    store_tile<5>(sums + 2 * tile_bytes, panel_row_bytes);
  }
}

// A group of rows and columns whose sums are ready, the first `done` rows of them in out.
template <class SumElement>
struct Finished {
  std::int64_t row, column;
  int rows, columns;
  SumElement* sums;
  int done = 0;
};

// Out of line: it is called from many places, and much code.
template <class T, class SumElement, class ValuesOf>
__attribute__((noinline)) void finish_up_to(const MatmulBlock& block, Finished<SumElement>& group, std::int64_t rows,
                                            ValuesOf values_of) {
  const int count = static_cast<int>(rows) - group.done;
  if (count <= 0) return;
  finish_rows<T>(block, group.sums + group.done * panel_width<float>, group.row + group.done, group.column, count,
                 group.columns, values_of);
  group.done += count;
}

template <class T, class Product, bool RowsPassing, class ValuesOf>
void multiply_block_in_tiles(const MatmulBlock& block, ValuesOf values_of) {
  using SumElement = typename Product::SumElement;
  const std::int64_t steps = block.depth / tile_units, last_units = block.depth % tile_units;
  const std::int64_t group_bytes = (steps + (last_units > 0 ? 1 : 0)) * group_step_bytes;
  alignas(64) char last_of_panel[tile_units * panel_row_bytes];
  alignas(64) SumElement sums[2][group_rows * panel_width<float>];
  const auto left = static_cast<Bytes>(block.left);

  TileShapes shapes;
  int shaped_for = 0;
  const auto shape_for = [&](int tile_rows) {
    if (tile_rows == shaped_for) return;
    shaped_for = tile_rows;
    for (int tile = 0; tile <= 6; ++tile) shapes.set_rows(tile, tile_rows);
    shapes.apply();
  };

  // The next panel comes to the level-2 cache meanwhile, unless few rows leave no time for it.
  const std::int64_t row_groups = (block.rows + group_rows - 1) / group_rows;
  const std::int64_t lines_a_step =
      row_groups < 4 ? 0 : (tile_units * panel_row_bytes / 64 + row_groups - 1) / row_groups;
  // What a group's epilogue will write and add is fetched for it, a few rows in each step.
  const int rows_a_step = steps == 0 ? 0 : static_cast<int>((group_rows + steps - 1) / steps);
  int groups_begun = 0;
  Finished<SumElement> previous{};
  for (std::int64_t column = 0; column < block.columns; column += panel_width<float>) {
    const auto panel = static_cast<Bytes>(block.panels) + column / panel_width<float> * block.panel_stride * 4;
    const std::int64_t columns_left = block.columns - column;
    const int columns = columns_left < panel_width<float> ? static_cast<int>(columns_left) : panel_width<float>;
    if (last_units > 0) {
      __builtin_memset(last_of_panel, 0, sizeof last_of_panel);
      __builtin_memcpy(last_of_panel, panel + steps * tile_units * panel_row_bytes,
                       static_cast<std::uint64_t>(last_units * panel_row_bytes));
    }
    const char* next_panel = panel + block.panel_stride * 4;
    for (std::int64_t row = 0; row < block.rows; row += group_rows) {
      const int rows = block.rows - row < group_rows ? static_cast<int>(block.rows - row) : group_rows;
      const Finished<SumElement> current{row, column, rows, columns, sums[groups_begun++ % 2]};
      const Bytes rows_of_group = left + row / group_rows * group_bytes;
      const auto multiply = [&]<int Tiles>(RowGroup<Tiles> group) __attribute__((always_inline)) {
        shape_for(group.tile_rows);
        begin_sums(group);
        int rows_fetched = 0;
        add_steps<Product, RowsPassing>(group, rows_of_group, panel, steps,
                                        [&](std::int64_t step) __attribute__((always_inline)) {
                                          for (std::int64_t i = 0; i < lines_a_step; ++i, next_panel += 64)
                                            __builtin_prefetch(next_panel, 0, 2);
                                          if (rows_fetched < rows) {
                                            fetch_ends<T, 3>(block, row + rows_fetched, column, rows_a_step);
                                            rows_fetched += rows_a_step;
                                          }
                                          const std::int64_t due = previous.rows * (step + 1) / steps;
                                          finish_up_to<T>(block, previous, due - due % rows_at_once, values_of);
                                        });
        if (last_units > 0)
          add_steps<Product, false>(group, rows_of_group + steps * group_step_bytes, last_of_panel, 1,
                                    [](std::int64_t) {});
        end_sums(group, reinterpret_cast<char*>(current.sums));
      };
      if (rows > tile_units)
        multiply(RowGroup<2>{(rows + 1) / 2, rows / 2});
      else
        multiply(RowGroup<1>{rows, 0});
      finish_up_to<T>(block, previous, previous.rows, values_of);
      previous = current;
    }
  }
  finish_up_to<T>(block, previous, previous.rows, values_of);
}

template <class T, class Product, class ValuesOf>
void multiply_in_tiles(const MatmulBlock& block, ValuesOf values_of) {
  if (block.rows > group_rows && block.panel_stride * 4 <= small_panel)
    multiply_block_in_tiles<T, Product, true>(block, values_of);
  else
    multiply_block_in_tiles<T, Product, false>(block, values_of);
}

}  // namespace

void arrange_rows(const MatrixUnitRows* arguments) noexcept {
  const MatrixUnitRows& task = *arguments;
  const std::int64_t whole = task.row_bytes / tile_bytes * tile_bytes, rest = task.row_bytes - whole;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const char* source = static_cast<Bytes>(task.source) + row * task.source_stride;
    char* target = static_cast<char*>(task.target) + row * tile_bytes;
    for (std::int64_t i = 0; i < whole; i += tile_bytes, target += group_step_bytes)
      __builtin_memcpy(target, source + i, tile_bytes);
    if (rest == 0) continue;
    __builtin_memset(target, 0, tile_bytes);
    __builtin_memcpy(target, source + whole, static_cast<std::uint64_t>(rest));
  }
}

void multiply_bfloat16_tiles(const MatmulBlock* block) noexcept {
  multiply_in_tiles<bfloat16, Bfloat16Tiles>(*block, PlainValues<float>());
}

template <class T>
void multiply_int8_tiles(const MatmulBlock* block) noexcept {
  PanelWords words;
  multiply_in_tiles<T, Int8Tiles>(*block, Int8Values(*block, words));
}
template void multiply_int8_tiles<float>(const MatmulBlock*) noexcept;
template void multiply_int8_tiles<float16>(const MatmulBlock*) noexcept;
template void multiply_int8_tiles<bfloat16>(const MatmulBlock*) noexcept;

}  // namespace attnlib::ATTNLIB_ISA
