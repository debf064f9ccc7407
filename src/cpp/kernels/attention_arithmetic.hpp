// How the tiles of attention multiply elements of T: one by one in the compute type, or, where an instruction does it,
// bfloat16 in pairs along the reduction. Everything else about a tile is the same for both.
#pragma once

#include "kernels/attention.hpp"
#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr int tile_vectors = 2;
template <class C>
constexpr int tile_rows = tile_vectors * lanes<C>;

// One by one. Keys and values are of the compute type, in rows; weights take the place of the scores.
template <class T>
struct TileArithmetic {
  using C = compute_type<T>;
  using Element = C;                           // of keys and values
  using Operand = vec<C>;                      // one register of rows, or one key's or value's element in every lane
  static constexpr int together = 1;           // elements along a reduction that one step takes
  static constexpr int rows = attention_rows;  // keys, or columns, whose accumulators a product keeps
  static constexpr int weight_group = 1;       // keys whose weights lie, and are multiplied, together
  static constexpr int key_block = 128;
  static constexpr int staged_blocks = 1;       // at a time
  static constexpr bool fetches_keys = true;    // and values, of the next block
  static constexpr bool scales_queries = true;  // else the scores are scaled
  static constexpr bool scales_late = false;    // as they become weights, if nothing else is done to them

  ATTNLIB_INLINE Operand load_rows(const C* source) { return load(source); }
  ATTNLIB_INLINE Operand broadcast_element(const Element* source) { return broadcast<C>(*source); }
  ATTNLIB_INLINE vec<C> multiply_add(Operand a, Operand b, vec<C> c) { return fma(a, b, c); }
  // a where the weight is not 0
  ATTNLIB_INLINE Operand where_weighted(Operand a, Operand weight) { return weight == zero<C>() ? zero<C>() : a; }

  static constexpr std::int64_t query_steps(std::int64_t head_size) { return head_size; }
  static constexpr std::int64_t value_rows(std::int64_t value_size) { return value_size; }  // of the sums
  // Elements d, d + 1, .. of a query, scaled.
  ATTNLIB_INLINE vec<C> load_query(const T* row, std::int64_t step, std::int64_t head_size, vec<C> scale) {
    const std::int64_t left = head_size - step;
    return (left < lanes<C> ? load_partial(row + step, static_cast<int>(left)) : load(row + step)) * scale;
  }

  // Elements of the scratch, in units of C.
  static constexpr std::int64_t key_elements(std::int64_t head_size) { return key_block * head_size; }
  static constexpr std::int64_t value_elements(std::int64_t value_size) { return key_block * value_size; }

  // `count` rows, dense and in the compute type. Rows of a (.., S, H, D) array lie a power of two apart often enough to
  // fall into a few cache sets, and two-byte rows have to be widened anyway: such rows are copied, once for all tiles.
  static const Element* stage(const T* source, std::int64_t& stride, std::int64_t count, std::int64_t width,
                              C* staged) {
    if constexpr (sizeof(T) == sizeof(C))
      if (stride == width) return source;
    for (std::int64_t row = 0; row < count; ++row) {
      std::int64_t d = 0;
      for (; d + lanes<C> <= width; d += lanes<C>) store(staged + row * width + d, load(source + row * stride + d));
      const int left = static_cast<int>(width - d);
      if (left > 0) store_partial(staged + row * width + d, load_partial(source + row * stride + d, left), left);
    }
    stride = width;
    return staged;
  }
  static const Element* stage_keys(const T* source, std::int64_t& stride, std::int64_t count, std::int64_t width,
                                   std::int64_t, C* staged) {
    return stage(source, stride, count, width, staged);
  }
  static const Element* stage_values(const T* source, std::int64_t& stride, std::int64_t count, std::int64_t width,
                                     C* staged) {
    return stage(source, stride, count, width, staged);
  }

  // Whether no value is NaN or infinite: such a one times 0 is NaN, and so is then the sum.
  static bool all_finite(const Element* values, std::int64_t stride, std::int64_t count, std::int64_t width) {
    vec<C> sum = zero<C>();
    for (std::int64_t row = 0; row < count; ++row, values += stride) {
      std::int64_t d = 0;
      for (; d + lanes<C> <= width; d += lanes<C>) sum = fma(load(values + d), zero<C>(), sum);
      if (d < width) sum = fma(load_partial(values + d, static_cast<int>(width - d)), zero<C>(), sum);
    }
    return !any<C>(sum != zero<C>());
  }
};

#if defined(ATTNLIB_DOT_BFLOAT16)
// In pairs. Keys lie in pairs of features already: rows of an even number of elements, in place if they are dense.
// Values are interleaved, [key / 2][column][2], and weights become [key / 2][row][2] in place of the scores.
struct PairArithmetic {
  using C = float;
  using Element = bfloat16;
  using Operand = u32v;
  static constexpr int together = 2;
  static constexpr int rows = attention_rows;
  static constexpr int weight_group = 2;
  static constexpr int key_block = 128;
  static constexpr int staged_blocks = 1;                // at a time
  static constexpr bool fetches_keys = true;             // and values, of the next block
  static constexpr bool scales_queries = false;          // a scaled query would have to be rounded
  static constexpr bool scales_late = true;              // as they become weights, if nothing else is done to them
  static constexpr bool products_sum_weights = false;    // into Tile::used; exponentiate() does
  static constexpr std::int64_t columns = 2 * lanes<C>;  // of a register of pairs
  static constexpr std::int64_t query_steps(std::int64_t head_size) { return (head_size + 1) / 2; }
  static constexpr std::int64_t value_rows(std::int64_t value_size) { return value_size; }

  ATTNLIB_INLINE Operand load_rows(const C* source) { return load_pairs(source); }
  ATTNLIB_INLINE Operand broadcast_element(const Element* source) { return broadcast_pair(source); }
  ATTNLIB_INLINE vec<C> multiply_add(Operand a, Operand b, vec<C> c) { return dot_pairs(c, a, b); }
  ATTNLIB_INLINE Operand where_weighted(Operand a, Operand weight) {
    const auto first = (weight << 16) == Operand{}, second = (weight >> 16) == Operand{};
    return a & ~((bit_cast<Operand>(first) & 0xffffu) | (bit_cast<Operand>(second) << 16));
  }

  ATTNLIB_INLINE void store_rows(C* target, Operand pairs) { __builtin_memcpy(target, &pairs, sizeof pairs); }
  ATTNLIB_INLINE vec<C> add_pair(Operand pair, vec<C> sum) { return dot_pairs(sum, pair, Operand{} + 0x3f803f80u); }

  ATTNLIB_INLINE u32v load_columns(const bfloat16* source, std::int64_t left) {
    return left < columns ? load_pairs_partial(source, static_cast<int>(left)) : load_pairs(source);
  }
  ATTNLIB_INLINE vec<C> load_query(const bfloat16* row, std::int64_t step, std::int64_t head_size, vec<C>) {
    return bit_cast<vec<C>>(load_columns(row + 2 * step, head_size - 2 * step));
  }

  static constexpr std::int64_t padded(std::int64_t width) { return (width + columns - 1) / columns * columns; }
  static constexpr std::int64_t key_elements(std::int64_t head_size) { return key_block * padded(head_size) / 2; }
  static constexpr std::int64_t value_elements(std::int64_t value_size) { return key_block / 2 * padded(value_size); }

  static const Element* stage_keys(const bfloat16* source, std::int64_t& stride, std::int64_t count, std::int64_t width,
                                   std::int64_t, C* staged) {
    if (stride == width && width % 2 == 0) return source;
    auto* target = reinterpret_cast<bfloat16*>(staged);
    for (std::int64_t row = 0; row < count; ++row)
      for (std::int64_t d = 0; d < width; d += columns) {
        const u32v pairs = load_columns(source + row * stride + d, width - d);
        __builtin_memcpy(target + row * padded(width) + d, &pairs, sizeof pairs);
      }
    stride = padded(width);
    return target;
  }

  static const Element* stage_values(const bfloat16* source, std::int64_t& stride, std::int64_t count,
                                     std::int64_t width, C* staged) {
    auto* target = reinterpret_cast<bfloat16*>(staged);
    for (std::int64_t key = 0; key < count; key += 2)
      for (std::int64_t d = 0; d < width; d += columns) {
        const u32v first = load_columns(source + key * stride + d, width - d);
        const u32v second = key + 1 < count ? load_columns(source + (key + 1) * stride + d, width - d) : u32v{};
        const PairsOfRows pairs = interleave(first, second);
        bfloat16* place = target + key * padded(width) + 2 * d;
        __builtin_memcpy(place, &pairs.low, sizeof pairs.low);
        __builtin_memcpy(place + columns, &pairs.high, sizeof pairs.high);
      }
    stride = 2 * padded(width);
    return target;
  }

  static bool all_finite(const Element* values, std::int64_t stride, std::int64_t count, std::int64_t width) {
    mask_vec<C> found{};
    for (std::int64_t row = 0; row < count; ++row, values += stride)
      for (std::int64_t d = 0; d < 2 * width; d += columns) {
        const u32v pairs = load_pairs(values + d);
        found = found | ((pairs & 0x7f800000u) == u32v{} + 0x7f800000u) | ((pairs & 0x7f80u) == u32v{} + 0x7f80u);
      }
    return !any<C>(found);
  }
};
#endif

#if defined(ATTNLIB_DOT_BFLOAT16) && !defined(ATTNLIB_MATRIX_UNIT)
template <>
struct TileArithmetic<bfloat16> : PairArithmetic {};
#endif

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
