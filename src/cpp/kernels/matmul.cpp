#include "kernels/matmul.hpp"

#include "kernels/simd/math.hpp"
#include "kernels/simd/transpose.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr std::int64_t depth_block = 768;

template <class C>
constexpr int panel_width = product_vectors * lanes<C>;

template <class C, class P>
using TileFunction = void (*)(const C* a, std::int64_t a_stride, const P* panel, std::int64_t depth_stride,
                              std::int64_t depth, C* tile, std::int64_t tile_stride, bool resume);

// tile[r][n] (+)= sum_k a[r][k] panel[k][n] for Rows rows and Vectors registers of columns.
template <class C, class P, int Rows, int Vectors>
void multiply_tile(const C* a, std::int64_t a_stride, const P* panel, std::int64_t depth_stride, std::int64_t depth,
                   C* tile, std::int64_t tile_stride, bool resume) {
  vec<C> sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[row][v] = resume ? load(tile + row * tile_stride + v * lanes<C>) : zero<C>();
#pragma GCC unroll 2
  for (std::int64_t k = 0; k < depth; ++k) {
    vec<C> columns[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) columns[v] = load(panel + k * depth_stride + v * lanes<C>);
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const vec<C> value = broadcast<C>(a[row * a_stride + k]);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sum[row][v] = fma(value, columns[v], sum[row][v]);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) store(tile + row * tile_stride + v * lanes<C>, sum[row][v]);
}

// The tile for a number of rows (1..product_rows) and of vectors (1..product_vectors), both known at run time only.
template <class C, class P, int Rows = product_rows, int Vectors = product_vectors>
TileFunction<C, P> tile_function(int rows, int vectors) {
  if constexpr (Rows > 1)
    if (rows < Rows) return tile_function<C, P, Rows - 1, Vectors>(rows, vectors);
  if constexpr (Vectors > 1)
    if (vectors < Vectors) return tile_function<C, P, Rows, Vectors - 1>(rows, vectors);
  return &multiply_tile<C, P, Rows, Vectors>;
}

// out = act(tile + bias) + residual for one tile, in the compute type until the store.
template <class T, class C>
void finish_tile(const MatmulBlock& block, const C* tile, std::int64_t row, std::int64_t column, int rows,
                 int columns) {
  const C* bias = static_cast<const C*>(block.bias);
  for (int r = 0; r < rows; ++r) {
    T* out = static_cast<T*>(block.out) + (row + r) * block.out_stride + column;
    const T* residual = block.residual == nullptr
                            ? nullptr
                            : static_cast<const T*>(block.residual) + (row + r) * block.residual_stride + column;
    for (int n = 0; n < columns; n += lanes<C>) {
      const int count = columns - n < lanes<C> ? columns - n : lanes<C>;
      vec<C> value = load(tile + r * panel_width<C> + n);
      if (count == lanes<C>) {
        if (bias != nullptr) value = value + load(bias + column + n);
        value = activate<C>(block.activation, value);
        if (residual != nullptr) value = value + load(residual + n);
        store(out + n, value);
      } else {
        if (bias != nullptr) value = value + load_partial(bias + column + n, count);
        value = activate<C>(block.activation, value);
        if (residual != nullptr) value = value + load_partial(residual + n, count);
        store_partial(out + n, value, count);
      }
    }
  }
}

template <class T, class P>
void multiply(const MatmulBlock* arguments) noexcept {
  using C = compute_type<T>;
  const MatmulBlock& block = *arguments;
  const bool plain = block.bias == nullptr && block.residual == nullptr && block.activation == Activation::none &&
                     block.depth <= depth_block;
  // Rows are dealt out evenly: 17 rows are tiles of 6, 6 and 5, not of 8, 8 and 1.
  const std::int64_t tiles = (block.rows + product_rows - 1) / product_rows;
  alignas(vector_bytes) C tile[product_rows * panel_width<C>];
  for (std::int64_t column = 0; column < block.columns; column += panel_width<C>) {
    const P* panel = static_cast<const P*>(block.panels) + column / panel_width<C> * block.panel_stride;
    const int columns = static_cast<int>(
        block.columns - column < panel_width<C> ? block.columns - column : static_cast<std::int64_t>(panel_width<C>));
    const int vectors = (columns + lanes<C> - 1) / lanes<C>;
    std::int64_t row = 0;
    for (std::int64_t index = 0; index < tiles; ++index) {
      const int rows = static_cast<int>((block.rows - row + (tiles - index) - 1) / (tiles - index));
      const TileFunction<C, P> run = tile_function<C, P>(rows, vectors);
      const C* a = static_cast<const C*>(block.a) + row * block.a_stride;
      if constexpr (sizeof(T) == sizeof(C)) {
        if (plain && columns % lanes<C> == 0) {
          run(a, block.a_stride, panel, block.depth_stride, block.depth,
              static_cast<T*>(block.out) + row * block.out_stride + column, block.out_stride, false);
          row += rows;
          continue;
        }
      }
      std::int64_t k = 0;
      do {
        const std::int64_t depth = block.depth - k < depth_block ? block.depth - k : depth_block;
        run(a + k, block.a_stride, panel + k * block.depth_stride, block.depth_stride, depth, tile, panel_width<C>,
            k > 0);
        k += depth;
      } while (k < block.depth);
      finish_tile<T, C>(block, tile, row, column, rows, columns);
      row += rows;
    }
  }
}

// Columns are contiguous in memory: rows of the source are copied.
template <class T, class P>
void pack_rows(const MatmulPack& pack) {
  using C = compute_type<T>;
  const T* source = static_cast<const T*>(pack.source);
  P* panel = static_cast<P*>(pack.panels);
  for (std::int64_t column = 0; column < pack.columns; column += panel_width<C>) {
    for (std::int64_t k = 0; k < pack.depth; ++k) {
      const T* row = source + k * pack.depth_stride + column;
      for (int n = 0; n < panel_width<C>; n += lanes<C>) {
        const std::int64_t left = pack.columns - column - n;
        if (left >= lanes<C>)
          store(panel + n, load(row + n));
        else
          store(panel + n, left > 0 ? load_partial(row + n, static_cast<int>(left)) : zero<C>());
      }
      panel += panel_width<C>;
    }
  }
}

// The depth is contiguous in memory (a weight of shape (out_features, in_features)): square blocks are transposed.
template <class T, class P>
void pack_columns(const MatmulPack& pack) {
  using C = compute_type<T>;
  constexpr int width = lanes<C>;
  const T* source = static_cast<const T*>(pack.source);
  P* panel = static_cast<P*>(pack.panels);
  for (std::int64_t column = 0; column < pack.columns; column += panel_width<C>) {
    for (int group = 0; group < product_vectors; ++group) {
      const std::int64_t first = column + group * width;
      for (std::int64_t k = 0; k < pack.depth; k += width) {
        const int depth = static_cast<int>(pack.depth - k < width ? pack.depth - k : static_cast<std::int64_t>(width));
        vec<C> rows[width];
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i) {
          rows[i] = zero<C>();
          if (first + i >= pack.columns) continue;
          const T* row = source + (first + i) * pack.column_stride + k;
          rows[i] = depth == width ? load(row) : load_partial(row, depth);
        }
        transpose<C>(rows);
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i)
          if (i < depth) store(panel + (k + i) * panel_width<C> + group * width, rows[i]);
      }
    }
    panel += pack.depth * panel_width<C>;
  }
}

template <class T, class P>
void pack(const MatmulPack* arguments) noexcept {
  if (arguments->column_stride == 1)
    pack_rows<T, P>(*arguments);
  else
    pack_columns<T, P>(*arguments);
}

template <class T>
void widen(const void* from, std::int64_t count, float* target) noexcept {
  const T* source = static_cast<const T*>(from);
  std::int64_t i = 0;
  for (; i + lanes<float> <= count; i += lanes<float>) store(target + i, load(source + i));
  if (i < count)
    store_partial(target + i, load_partial(source + i, static_cast<int>(count - i)), static_cast<int>(count - i));
}

}  // namespace

extern const MatmulKernels matmul_kernels;
constinit const MatmulKernels matmul_kernels = {
    .panel_width = {panel_width<float>, panel_width<double>},
    .tile_rows = {product_rows, product_rows},
    .multiply =
        {
            {multiply<float, float>, nullptr, multiply<float, float16>, multiply<float, bfloat16>},
            {nullptr, multiply<double, double>, nullptr, nullptr},
            {multiply<float16, float>, nullptr, multiply<float16, float16>, multiply<float16, bfloat16>},
            {multiply<bfloat16, float>, nullptr, multiply<bfloat16, float16>, multiply<bfloat16, bfloat16>},
        },
    .pack =
        {
            {pack<float, float>, nullptr, nullptr, nullptr},
            {nullptr, pack<double, double>, nullptr, nullptr},
            {pack<float16, float>, nullptr, pack<float16, float16>, nullptr},
            {pack<bfloat16, float>, nullptr, nullptr, pack<bfloat16, bfloat16>},
        },
    .widen = {nullptr, nullptr, widen<float16>, widen<bfloat16>},
};

}  // namespace attnlib::ATTNLIB_ISA
