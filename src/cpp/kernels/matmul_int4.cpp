// Products of int4 weights, in groups of `group_size` (32 to 128) of the depth: in group g
//   b[k, n] = t[g, n] w[k, n] + m[g, n],   w in 0..15,   a[r, k] = s[r, g] q[r, k],   q in -127..127
// so that
//   sum_k a b = sum_g s[r, g] (t[g, n] sum_k q w + m[g, n] sum_k q)
// where the inner sums are exact integers. Made for decoding: few rows, bound by reading the weights, 4.5 to 5 bits
// each.
//
// Layout. A panel of `panel_width` columns is a row of groups; a group holds group_size / 8 units for each column, then
// the columns' scales t and minima m as float16. A unit is 8 weights in 32 bits: the low halves of its bytes are
// weights 0..3, the high ones 4..7, so that a mask and a shift make two quads of bytes
// (for one row two masks, and the sums are shifted).
//
// Error: |w - (b - m) / t| <= 1/2 and |q - a / s| <= 1/2; t and m are rounded to float16. Rows of a are quantised group
// by group; a group with NaN or inf makes its row NaN.
#include "kernels/matmul_parts.hpp"
#include "kernels/matmul_tile.hpp"
#include "kernels/row_vectors.hpp"
#include "kernels/simd/integer_dot.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// Rows of a tile: an integer and a float accumulator for each row and vector.
constexpr int int4_rows = product_rows >= 8 ? 4 : 2;

// Four codes in every lane. From memory, one quad at a time: eight bytes at once would pass through general registers.
ATTNLIB_INLINE u32v broadcast_quad(const std::uint8_t* codes) {
  return broadcast_pair(reinterpret_cast<const bfloat16*>(codes));
}

template <int Rows>
void multiply_tile(const MatmulBlock& block, const std::uint8_t* panel, std::int64_t row, float* tile) {
  constexpr int width = panel_width<float>;
  const std::int64_t groups = block.depth;  // a unit of the walk is a group
  const std::int64_t units = block.group_size / 8;
  const std::uint8_t* left = static_cast<const std::uint8_t*>(block.left) + row * block.left_stride;
  // With one row it is masks and shifts that take the time: the high halves of bytes are multiplied where they are, as
  // 16 times their weights, and only their sums are shifted. Sums of their own want registers, and bytes without sign.
  constexpr bool high_apart = Rows == 1 && product_rows >= 8 && code_shift == 0;
  constexpr std::uint32_t low_half = 0x0f0f0f0fu, high_half = 0xf0f0f0f0u;
  vec<float> total[Rows][product_vectors] = {};
  for (std::int64_t group = 0; group < groups; ++group) {
    i32v sum[Rows][product_vectors] = {}, high_sum[Rows][product_vectors] = {};
    for (std::int64_t unit = 0; unit < units; ++unit) {
      QuadLeft low[product_vectors], high[product_vectors];
#pragma GCC unroll 4
      for (int v = 0; v < product_vectors; ++v) {
        const u32v nibbles = load_pairs(panel + (unit * width + v * lanes<float>)*4);
        low[v] = unsigned_quads(nibbles & low_half);
        high[v] = unsigned_quads(high_apart ? nibbles & high_half : (nibbles >> 4) & low_half);
      }
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const std::uint8_t* codes = left + r * block.left_stride + group * block.group_size + unit * 8;
        const QuadRight first = signed_quads(broadcast_quad(codes)), second = signed_quads(broadcast_quad(codes + 4));
#pragma GCC unroll 4
        for (int v = 0; v < product_vectors; ++v) {
          i32v& of_high = high_apart ? high_sum[r][v] : sum[r][v];
          sum[r][v] = dot_quads(sum[r][v], low[v], first);
          of_high = dot_quads(of_high, high[v], second);
        }
      }
    }
    panel += units * width * 4;
#pragma GCC unroll 4
    for (int v = 0; v < product_vectors; ++v) {
      const float16* numbers = reinterpret_cast<const float16*>(panel);
      const vec<float> scale = load(numbers + v * lanes<float>), minimum = load(numbers + width + v * lanes<float>);
#pragma GCC unroll 4
      for (int r = 0; r < Rows; ++r) {
        const std::int64_t place = (row + r) * groups + group;
        const vec<float> codes = broadcast<float>(static_cast<float>(block.row_offsets[place]));
        const i32v whole = high_apart ? sum[r][v] + (high_sum[r][v] >> 4) : sum[r][v];
        const vec<float> inner = fma(to_float(whole), scale, codes * minimum);
        total[r][v] = fma(inner, broadcast<float>(block.row_scales[place]), total[r][v]);
      }
    }
    panel += 2 * width * sizeof(float16);
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < product_vectors; ++v) store(tile + r * width + v * lanes<float>, total[r][v]);
}

template <int Rows = int4_rows>
void multiply_rows(int rows, const MatmulBlock& block, const std::uint8_t* panel, std::int64_t row, float* tile) {
  if constexpr (Rows > 1)
    if (rows < Rows) return multiply_rows<Rows - 1>(rows, block, panel, row, tile);
  multiply_tile<Rows>(block, panel, row, tile);
}

}  // namespace

template <class T>
void multiply_int4(const MatmulBlock* arguments) noexcept {
  const MatmulBlock& block = *arguments;
  constexpr int width = panel_width<float>;
  const std::int64_t panel_bytes = block.depth * (block.group_size / 2 + 4) * width;
  alignas(vector_bytes) float tile[int4_rows * width];
  for (std::int64_t column = 0; column < block.columns; column += width) {
    const std::uint8_t* panel = static_cast<const std::uint8_t*>(block.panels) + column / width * panel_bytes;
    const int columns =
        static_cast<int>(block.columns - column < width ? block.columns - column : static_cast<std::int64_t>(width));
    for (std::int64_t row = 0; row < block.rows; row += int4_rows) {
      const int rows =
          static_cast<int>(block.rows - row < int4_rows ? block.rows - row : static_cast<std::int64_t>(int4_rows));
      multiply_rows(rows, block, panel, row, tile);
      finish_rows<T>(block, tile, row, column, rows, columns, PlainValues<float>());
    }
  }
}

template <class T>
void stage_int4(const MatmulRows* arguments) noexcept {
  const MatmulRows& task = *arguments;
  using Bytes = typename VectorOf<std::int8_t, lanes<float>>::type;
  const std::int64_t groups = task.target_stride / task.group_size;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const T* source = static_cast<const T*>(task.source) + row * task.source_stride;
    std::int8_t* target = static_cast<std::int8_t*>(task.target) + row * task.target_stride;
    for (std::int64_t i = task.depth; i < task.target_stride; ++i) target[i] = 0;
    for (std::int64_t group = 0; group < groups; ++group) {
      const std::int64_t first = group * task.group_size;
      const std::int64_t count = task.depth - first < task.group_size ? task.depth - first : task.group_size;
      vec<float> largest = zero<float>(), dirt = zero<float>();
      for_each_vector<float>(count, [&](std::int64_t i, int present, int) __attribute__((always_inline)) {
        const vec<float> x = load_lanes(source + first + i, present);
        largest = max(abs<float>(x), largest);
        dirt = fma(x, zero<float>(), dirt);
      });
      const bool finite = !any<float>(dirt != zero<float>());
      float scale = reduce_max<float>(largest) * (1.0f / 127.0f);
      if (!(scale >= 0x1p-126f)) scale = 0.0f;
      const float steps = finite && scale > 0.0f ? 1.0f / scale : 0.0f;
      i32v sum{};
      for_each_vector<float>(count, [&](std::int64_t i, int present, int) __attribute__((always_inline)) {
        vec<float> code = zero<float>();
        if (steps > 0.0f) code = round_to_integer(load_lanes(source + first + i, present) * broadcast<float>(steps));
        const i32v whole = __builtin_convertvector(code, i32v);
        const Bytes bytes = __builtin_convertvector(whole, Bytes);
        __builtin_memcpy(target + first + i, &bytes, static_cast<unsigned>(present));
        sum += whole;
      });
      std::int32_t codes = 0;
      for (int lane = 0; lane < lanes<float>; ++lane) codes += sum[lane];
      task.scales[row * groups + group] = finite ? scale : __builtin_nanf("");
      task.offsets[row * groups + group] = codes;
    }
  }
}

template void stage_int4<float>(const MatmulRows*) noexcept;
template void stage_int4<float16>(const MatmulRows*) noexcept;
template void stage_int4<bfloat16>(const MatmulRows*) noexcept;
template void multiply_int4<float>(const MatmulBlock*) noexcept;
template void multiply_int4<float16>(const MatmulBlock*) noexcept;
template void multiply_int4<bfloat16>(const MatmulBlock*) noexcept;

}  // namespace attnlib::ATTNLIB_ISA
