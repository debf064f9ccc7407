// Laying a matrix out in panels (kernels/matmul.hpp): from rows that lie along the columns, or along the depth.
#include "kernels/matmul_parts.hpp"
#include "kernels/matmul_tile.hpp"
#include "kernels/simd/transpose.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

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

// The depth is contiguous in memory (a weight of shape (out_features, in_features)): square blocks of units are
// transposed. `load_row(column, unit, count)` gives `count` units of a column.
template <class C, class P, class LoadRow, class StoreUnits>
ATTNLIB_INLINE void pack_transposed(std::int64_t columns, std::int64_t units, P* panel, LoadRow load_row,
                                    StoreUnits store_units) {
  constexpr int width = lanes<C>;
  for (std::int64_t column = 0; column < columns; column += panel_width<C>) {
    for (int group = 0; group < product_vectors; ++group) {
      const std::int64_t first = column + group * width;
      for (std::int64_t k = 0; k < units; k += width) {
        const int count = static_cast<int>(units - k < width ? units - k : static_cast<std::int64_t>(width));
        vec<C> rows[width];
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i) {
          rows[i] = zero<C>();
          if (first + i < columns) rows[i] = load_row(first + i, k, count);
        }
        transpose<C>(rows);
#pragma GCC unroll 16
        for (int i = 0; i < width; ++i)
          if (i < count) store_units(panel + (k + i) * panel_width<C> + group * width, rows[i]);
      }
    }
    panel += units * panel_width<C>;
  }
}

template <class T, class P>
void pack_columns(const MatmulPack& pack) {
  using C = compute_type<T>;
  const T* source = static_cast<const T*>(pack.source);
  pack_transposed<C>(
      pack.columns, pack.depth, static_cast<P*>(pack.panels),
      [&](std::int64_t column, std::int64_t k, int count) __attribute__((always_inline)) {
        const T* row = source + column * pack.column_stride + k;
        return count == lanes<C> ? load(row) : load_partial(row, count);
      },
      [](P* target, vec<C> units) __attribute__((always_inline)) { store(target, units); });
}

}  // namespace

template <class T, class P>
void pack(const MatmulPack* arguments) noexcept {
  if (arguments->column_stride == 1)
    pack_rows<T, P>(*arguments);
  else
    pack_columns<T, P>(*arguments);
}
template void pack<float, float>(const MatmulPack*) noexcept;
template void pack<double, double>(const MatmulPack*) noexcept;
template void pack<float16, float>(const MatmulPack*) noexcept;
template void pack<float16, float16>(const MatmulPack*) noexcept;
template void pack<bfloat16, float>(const MatmulPack*) noexcept;

// The bits of the first `count` elements, one in each lane; zeros in the others.
ATTNLIB_INLINE u32v load_bits(const bfloat16* source, std::int64_t count) {
  if (count <= 0) return u32v{};
  u16v bits;
  if (count >= lanes<float>)
    __builtin_memcpy(&bits, source, sizeof bits);
  else
    bits = load_first_u16(source, static_cast<int>(count));
  return widen_halves(bits);
}

// Pairs move as lanes of 32 bits; a last half pair gets a zero.
void pack_pairs(const MatmulPack* arguments) noexcept {
  const MatmulPack& pack = *arguments;
  const bfloat16* source = static_cast<const bfloat16*>(pack.source);
  std::uint32_t* panel = static_cast<std::uint32_t*>(pack.panels);
  const std::int64_t units = (pack.depth + 1) / 2;
  const auto pair_at = [&](std::int64_t column, std::int64_t unit) {
    const bfloat16* first = source + column * pack.column_stride + 2 * unit * pack.depth_stride;
    const std::uint32_t second = 2 * unit + 1 < pack.depth ? first[pack.depth_stride].bits : 0u;
    return first->bits | second << 16;
  };
  if (pack.depth_stride == 1) {
    pack_transposed<float>(
        pack.columns, units, panel,
        [&](std::int64_t column, std::int64_t unit, int count) __attribute__((always_inline)) {
          if (2 * (unit + lanes<float>) <= pack.depth)
            return bit_cast<vec<float>>(load_pairs(source + column * pack.column_stride + 2 * unit));
          std::uint32_t pairs[lanes<float>] = {};
          for (int i = 0; i < count; ++i) pairs[i] = pair_at(column, unit + i);
          return bit_cast<vec<float>>(load_pairs(pairs));
        },
        [](std::uint32_t* target, vec<float> pairs)
            __attribute__((always_inline)) { __builtin_memcpy(target, &pairs, sizeof pairs); });
    return;
  }
  for (std::int64_t column = 0; column < pack.columns; column += panel_width<float>) {
    for (std::int64_t unit = 0; unit < units; ++unit, panel += panel_width<float>) {
      if (pack.column_stride == 1) {
        const bfloat16* first = source + 2 * unit * pack.depth_stride + column;
        for (int n = 0; n < panel_width<float>; n += lanes<float>) {
          const std::int64_t left = pack.columns - column - n;
          u32v pairs = load_bits(first + n, left);
          if (2 * unit + 1 < pack.depth) pairs |= load_bits(first + pack.depth_stride + n, left) << 16;
          __builtin_memcpy(panel + n, &pairs, sizeof pairs);
        }
        continue;
      }
      for (int n = 0; n < panel_width<float>; ++n) panel[n] = column + n < pack.columns ? pair_at(column + n, unit) : 0;
    }
  }
}

}  // namespace attnlib::ATTNLIB_ISA
