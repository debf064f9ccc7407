// The walk over a product: panels, chunks of the depth, tiles of registers, the epilogue. What a unit is and how two of
// them are multiplied is the Arithmetic's part:
//   Left, Unit       what a unit of a row and of a panel is in memory
//   Sum, SumElement  a register of accumulators, and one of its lanes
//   rows             of the largest tile
//   load_left(const Left*)      one unit in all lanes
//   load_units(const Unit*)     a register of units
//   add(sum, left, units)       sum + left * units
#pragma once

#include "kernels/matmul.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr std::int64_t depth_block = 1024;

template <class C>
constexpr int panel_width = product_vectors * lanes<C>;

// Memory that is fetched meanwhile, `step` bytes further in each step: a line, and by some tiles another one `apart`
// bytes further. A step of 0 fetches nothing new. Passed by reference: GCC copies it to the stack in halves and in one
// piece, which is then not forwarded from stores but waits until they, and all before them, have reached the cache.
struct Fetching {
  const char* place;
  std::int64_t step, apart = 0;
};

template <class Arithmetic>
using TileFunction = void (*)(const typename Arithmetic::Left* left, std::int64_t left_stride,
                              const typename Arithmetic::Unit* panel, std::int64_t depth_stride, std::int64_t depth,
                              typename Arithmetic::SumElement* tile, std::int64_t tile_stride, bool resume,
                              const Fetching& next);

// tile[r][n] (+)= sum_k left[r][k] panel[k][n] for Rows rows and Vectors registers of columns. In each step a line of
// `next` is fetched, or both.
template <class Arithmetic, int Rows, int Vectors, int Lines>
void multiply_tile(const typename Arithmetic::Left* left, std::int64_t left_stride,
                   const typename Arithmetic::Unit* panel, std::int64_t depth_stride, std::int64_t depth,
                   typename Arithmetic::SumElement* tile, std::int64_t tile_stride, bool resume, const Fetching& next) {
  using Sum = typename Arithmetic::Sum;
  constexpr int width = sizeof(Sum) / sizeof(typename Arithmetic::SumElement);
  const auto [place, step, apart] = next;
  Sum sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      sum[row][v] = Sum{};
      if (resume) __builtin_memcpy(&sum[row][v], tile + row * tile_stride + v * width, sizeof(Sum));
    }
  }
#pragma GCC unroll 2
  for (std::int64_t k = 0; k < depth; ++k) {
    __builtin_prefetch(place + k * step, 0, 2);
    if constexpr (Lines == 2) __builtin_prefetch(place + k * step + apart, 0, 2);
    typename Arithmetic::Units units[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) units[v] = Arithmetic::load_units(panel + k * depth_stride + v * width);
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const auto value = Arithmetic::load_left(left + row * left_stride + k);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[row][v] = Arithmetic::add(sum[row][v], value, units[v]);
    }
  }
  // The rows' addresses anew: known from before the loop, GCC keeps them in vector registers and on the stack
  // meanwhile.
  asm("" : "+r"(tile), "+r"(tile_stride));
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) __builtin_memcpy(tile + v * width, &sum[row][v], sizeof(Sum));
    tile += tile_stride;
  }
}

// Whether two lines a step are worth code of their own: not in float64 nor for rows that are wider than their weights.
template <class Arithmetic>
constexpr bool has_two_lines = sizeof(typename Arithmetic::Left) == 4 &&
                               sizeof(typename Arithmetic::Unit) * panel_width<float> > std::uint64_t{128};

// The tiles by their number of rows and of vectors, which are known at run time only.
template <class Arithmetic>
struct TileTable {
  TileFunction<Arithmetic> tile[Arithmetic::rows][product_vectors];
  // Of all columns, which fetch two lines: those of two tiles for all rows, so never with few of them. Null without
  // has_two_lines.
  TileFunction<Arithmetic> one_of_two[Arithmetic::rows];

  constexpr TileTable() : tile{}, one_of_two{} { fill<Arithmetic::rows, product_vectors>(); }

 private:
  template <int Rows, int Vectors>
  constexpr void fill() {
    tile[Rows - 1][Vectors - 1] = &multiply_tile<Arithmetic, Rows, Vectors, 1>;
    if constexpr (Vectors == product_vectors && 2 * Rows >= Arithmetic::rows && has_two_lines<Arithmetic>)
      one_of_two[Rows - 1] = &multiply_tile<Arithmetic, Rows, Vectors, 2>;
    if constexpr (Vectors > 1)
      fill<Rows, Vectors - 1>();
    else if constexpr (Rows > 1)
      fill<Rows - 1, product_vectors>();
  }
};
template <class Arithmetic>
constexpr TileTable<Arithmetic> tile_table;

// What accumulators are worth, in three steps, so that what belongs to columns, or to a row, is looked up once:
// values_of(column) gives a function of rows, which gives one of accumulators: (sums, n) is the value of a register of
// them, n columns further. Each is kept while the next one is used, and good until another of its kind is asked for.
// Here: they are the values.
template <class C>
struct PlainValues {
  inline __attribute__((always_inline)) auto operator()(std::int64_t) const {
    return [](std::int64_t) __attribute__((always_inline)) {
      return [](const C* sums, int) __attribute__((always_inline)) { return load(sums); };
    };
  }
};

// Accumulators of some rows and all columns of a panel -> out = act(value + bias) + residual, in the compute type until
// the store.
template <class T, Activation kind, class SumElement, class ValuesOf, class C = compute_type<T>>
ATTNLIB_INLINE void finish_whole_rows(const MatmulBlock& block, const SumElement* tile, std::int64_t row,
                                      std::int64_t column, int rows, ValuesOf values_of) {
  vec<C> bias[product_vectors];
#pragma GCC unroll 4
  for (int v = 0; v < product_vectors; ++v)  // -0 + x is x, whatever its sign
    bias[v] =
        block.bias == nullptr ? broadcast<C>(C(-0.0)) : load(static_cast<const C*>(block.bias) + column + v * lanes<C>);
  T* out = static_cast<T*>(block.out) + row * block.out_stride + column;
  // Named here: for all that the compiler knows, the stores may change the block.
  const std::int64_t out_stride = block.out_stride, residual_stride = block.residual_stride;
  const T* residual =
      block.residual == nullptr ? nullptr : static_cast<const T*>(block.residual) + row * residual_stride + column;
  const auto values_of_row = values_of(column);
  for (int r = 0; r < rows; ++r) {
    const auto values = values_of_row(row + r);
    vec<C> results[product_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < product_vectors; ++v)
      results[v] = activate<C>(kind, values(tile + v * lanes<C>, v * lanes<C>) + bias[v]);
    if (residual != nullptr) {
#pragma GCC unroll 4
      for (int v = 0; v < product_vectors; ++v) results[v] = results[v] + load(residual + v * lanes<C>);
      residual += residual_stride;
    }
    store_results(out, results);
    tile += panel_width<C>;
    out += out_stride;
  }
}

// The same for fewer columns, which are few of all, and for activations that products seldom end with: one copy of the
// code, that asks for the activation each time.
template <class T, class SumElement, class ValuesOf, class C = compute_type<T>>
__attribute__((noinline)) void finish_part_rows(const MatmulBlock& block, const SumElement* tile, std::int64_t row,
                                                std::int64_t column, int rows, int columns, ValuesOf values_of) {
  const C* bias = block.bias == nullptr ? nullptr : static_cast<const C*>(block.bias) + column;
  const auto values_of_row = values_of(column);
  for (int r = 0; r < rows; ++r) {
    const auto values = values_of_row(row + r);
    T* out = static_cast<T*>(block.out) + (row + r) * block.out_stride + column;
    const T* residual = block.residual == nullptr
                            ? nullptr
                            : static_cast<const T*>(block.residual) + (row + r) * block.residual_stride + column;
    for (int n = 0; n < columns; n += lanes<C>) {
      const int count = columns - n < lanes<C> ? columns - n : lanes<C>;
      const auto load_some = [=](const auto* source) __attribute__((always_inline)) {
        return count == lanes<C> ? load(source) : load_partial(source, count);
      };
      vec<C> value = values(tile + r * panel_width<C> + n, n);
      if (bias != nullptr) value = value + load_some(bias + n);
      value = activate<C>(block.activation, value);
      if (residual != nullptr) value = value + load_some(residual + n);
      if (count == lanes<C>)
        store(out + n, value);
      else
        store_partial(out + n, value, count);
    }
  }
}

template <class T, class SumElement, class ValuesOf>
ATTNLIB_INLINE void finish_rows(const MatmulBlock& block, const SumElement* tile, std::int64_t row, std::int64_t column,
                                int rows, int columns, ValuesOf values_of) {
  if (columns < panel_width<compute_type<T>>)
    return finish_part_rows<T>(block, tile, row, column, rows, columns, values_of);
  const auto finish = [&]<Activation kind>() __attribute__((always_inline)) {
    finish_whole_rows<T, kind>(block, tile, row, column, rows, values_of);
  };
  switch (block.activation) {
    case Activation::none:
      return finish.template operator()<Activation::none>();
    case Activation::relu:
      return finish.template operator()<Activation::relu>();
    case Activation::gelu:
      return finish.template operator()<Activation::gelu>();
    case Activation::gelu_tanh:
      return finish.template operator()<Activation::gelu_tanh>();
    case Activation::silu:
      return finish.template operator()<Activation::silu>();
    case Activation::tanh:
    case Activation::sigmoid:
      return finish_part_rows<T>(block, tile, row, column, rows, columns, values_of);
  }
}

// Fetches what the epilogue of a tile will write and add, while the tile is multiplied: out is rarely in a cache yet.
// Always for a whole tile, so that the loops unroll: fetching past the end of an array does no harm. out goes where
// __builtin_prefetch takes `out_locality` for, 3 the level-1 cache, 2 the level-2 cache.
template <class T, int out_locality>
ATTNLIB_INLINE void fetch_ends(const MatmulBlock& block, std::int64_t row, std::int64_t column, int rows) {
  constexpr int line = 64 / sizeof(T);
  for (std::int64_t r = row; r < row + rows; ++r) {
    const T* out = static_cast<const T*>(block.out) + r * block.out_stride + column;
#pragma GCC unroll 8
    for (int n = 0; n < panel_width<compute_type<T>>; n += line) __builtin_prefetch(out + n, 1, out_locality);
    if (block.residual == nullptr) continue;
    const T* residual = static_cast<const T*>(block.residual) + r * block.residual_stride + column;
#pragma GCC unroll 8
    for (int n = 0; n < panel_width<compute_type<T>>; n += line) __builtin_prefetch(residual + n);
  }
}

// All of a block. `values_of` as above; Direct: the accumulators are the values, and may go straight to out.
template <class T, class Arithmetic, bool Direct, class ValuesOf>
ATTNLIB_INLINE void multiply_block(const MatmulBlock& block, ValuesOf values_of) {
  using C = compute_type<T>;
  using SumElement = typename Arithmetic::SumElement;
  const auto* left = static_cast<const typename Arithmetic::Left*>(block.left);
  // Rows are dealt out evenly: 17 rows are tiles of 6, 6 and 5, not of 8, 8 and 1; chunks of the depth likewise.
  const std::int64_t tiles = (block.rows + Arithmetic::rows - 1) / Arithmetic::rows;
  const std::int64_t chunks = block.depth <= depth_block ? 1 : (block.depth + depth_block - 1) / depth_block;
  const bool plain =
      Direct && block.bias == nullptr && block.residual == nullptr && block.activation == Activation::none;
  alignas(vector_bytes) SumElement sums[largest_block_rows * panel_width<C>];
  // Columns too are dealt out evenly where b is read in place: 64 columns are 32 and 32, not 48 and 16.
  const bool in_place = block.panel_stride == panel_width<C>;
  const std::int64_t panels = (block.columns + panel_width<C> - 1) / panel_width<C>;
  // The rows that follow are fetched meanwhile, an equal part with each tile; so is the b that follows one in place.
  const auto* next_rows = reinterpret_cast<const char*>(left + block.rows * block.left_stride);
  const auto* next_panels = static_cast<const char*>(block.panels) +
                            block.depth * block.depth_stride * std::int64_t{sizeof(typename Arithmetic::Unit)};
  const std::int64_t next_bytes = block.left_bytes_after;
  std::int64_t column = 0, tiles_begun = 0, fetched = 0, panels_fetched = 0;
  for (std::int64_t index = 0; index < panels; ++index) {
    const std::int64_t rest = block.columns - column;
    std::int64_t step = panel_width<C>;
    if (in_place) step = ((rest + lanes<C> - 1) / lanes<C> + panels - index - 1) / (panels - index) * lanes<C>;
    const auto* panel =
        static_cast<const typename Arithmetic::Unit*>(block.panels) + (in_place ? column : index * block.panel_stride);
    const int columns = static_cast<int>(rest < step ? rest : step);
    const int vectors = (columns + lanes<C> - 1) / lanes<C>;
    std::int64_t begin = 0;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      const std::int64_t end = block.depth * (chunk + 1) / chunks;
      std::int64_t row = 0;
      for (std::int64_t left_over = tiles; left_over > 0; --left_over) {
        const int rows = static_cast<int>((block.rows - row + left_over - 1) / left_over);
        TileFunction<Arithmetic> run = tile_table<Arithmetic>.tile[rows - 1][vectors - 1];
        const auto* first = left + row * block.left_stride + begin;
        const auto* units = panel + begin * block.depth_stride;
        const std::int64_t fetch_to = next_bytes * ++tiles_begun / (tiles * panels * chunks);
        // What comes after this part of the panel in memory is needed next: the first tiles fetch it into the level-2
        // cache, each a line in a step, or two tiles half of it each. A single tile has no time to fetch all: with a
        // matrix unit, which Intel's processors have, it fetches one line of a step, two pages ahead, so that the
        // hardware's streams begin each page before its time; on Zen 4 that costs products of 8 rows a third.
        constexpr std::int64_t step_bytes = panel_width<C> * std::int64_t{sizeof(*units)};
        constexpr std::int64_t step_lines = step_bytes < 64 ? 1 : step_bytes / 64;
        const std::int64_t tile_index = tiles - left_over;
        Fetching next{reinterpret_cast<const char*>(units), 0};
        if (panels_fetched < block.panel_bytes_after) {
          next = {next_panels + panels_fetched, 64};
          panels_fetched += 64 * (end - begin);
        } else if (has_two_lines<Arithmetic> && !in_place && tiles == 2 && vectors == product_vectors) {
          run = tile_table<Arithmetic>.one_of_two[rows - 1];
          next.step = step_bytes / 2;
          next.apart = step_bytes / 4;
          next.place += (end - begin) * (step_bytes + tile_index * next.step);
        } else if (!in_place && tiles > 1 && tile_index < step_lines) {
          next.step = step_bytes < 64 ? step_bytes : 64;
          next.place += (end - begin) * (step_bytes + tile_index * next.step);
        } else if (block.single_tile_fetches && !in_place && rows >= 4 && tiles == 1) {
          next = {next.place + 8192, step_bytes};
        } else if (fetched < fetch_to) {
          const std::int64_t wanted = (fetch_to - fetched + end - begin - 1) / (end - begin);
          next = {next_rows + fetched, wanted < 64 ? wanted : 64};
          fetched += next.step * (end - begin);
        }
        // Into the level-2 cache: all lines of a tile are asked for at once, and on their way from memory to the
        // level-1 cache they keep the tile's own loads waiting. Not for a b that is read in place: measured with tiles
        // of depth 64, which are over too soon.
        if (chunk == chunks - 1 && !in_place) fetch_ends<T, 2>(block, row, column, rows);
        if constexpr (Direct && sizeof(T) == sizeof(C)) {
          if (plain && columns % lanes<C> == 0) {
            run(first, block.left_stride, units, block.depth_stride, end - begin,
                static_cast<T*>(block.out) + row * block.out_stride + column, block.out_stride, chunk > 0, next);
            row += rows;
            continue;
          }
        }
        SumElement* tile = sums + row * panel_width<C>;
        run(first, block.left_stride, units, block.depth_stride, end - begin, tile, panel_width<C>, chunk > 0, next);
        if (chunk == chunks - 1) finish_rows<T>(block, tile, row, column, rows, columns, values_of);
        row += rows;
      }
      begin = end;
    }
    column += columns;
  }
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
