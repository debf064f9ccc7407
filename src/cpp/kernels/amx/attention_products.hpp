// The two products of attention by the matrix unit. Both have 2 x 2 sums (tiles 0 to 3), two tiles of the left side (4
// and 5) and two of the rows (6 and 7): a step loads four tiles for four products.
#pragma once

#include "kernels/attention_products.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr std::int64_t row_bytes = tile_rows<float> * std::int64_t{sizeof(float)};  // of scores, weights and sums

// Which sums a call keeps: those of two tiles of the left side, or of one.
template <int Lefts>
struct TileSums {
  static void clear() {
    zero_tile<0>(), zero_tile<1>();
    if constexpr (Lefts == 2) zero_tile<2>(), zero_tile<3>();
  }
  static void load(const float* from) {
    load_tile<0>(from, row_bytes);
    load_tile<1>(from + tile_units, row_bytes);
    if constexpr (Lefts == 1) return;
    from += tile_units * tile_rows<float>;
    load_tile<2>(from, row_bytes);
    load_tile<3>(from + tile_units, row_bytes);
  }
  static void store(float* to) {
    store_tile<0>(to, row_bytes);
    store_tile<1>(to + tile_units, row_bytes);
    if constexpr (Lefts == 1) return;
    to += tile_units * tile_rows<float>;
    store_tile<2>(to, row_bytes);
    store_tile<3>(to + tile_units, row_bytes);
  }
  // One step of the reduction.
  static void add(const bfloat16* left, std::int64_t left_bytes, const float* rows) {
    load_tile<4>(left, left_bytes);
    load_tile<6>(rows, row_bytes);
    Bfloat16Tiles::multiply_add<0, 4, 6>();
    load_tile<7>(rows + tile_units, row_bytes);
    Bfloat16Tiles::multiply_add<1, 4, 7>();
    if constexpr (Lefts == 1) return;
    load_tile<5>(reinterpret_cast<const char*>(left) + tile_units * left_bytes, left_bytes);
    Bfloat16Tiles::multiply_add<2, 5, 6>();
    Bfloat16Tiles::multiply_add<3, 5, 7>();
  }
};

template <>
struct TileProducts<TileArithmetic<bfloat16>> {
  using A = TileArithmetic<bfloat16>;
  using Element = bfloat16;
  static constexpr int step = A::step_elements;

  static std::int64_t products_of(std::int64_t keys, std::int64_t value_size) {
    constexpr std::int64_t together = 2 * tile_units;
    return (keys + together - 1) / together + (A::value_rows(value_size) + together - 1) / together;
  }
  // Of whole tiles of keys: what the others score is not looked at.
  static void scores(const Element* keys, std::int64_t stride, int first, int last, const float* query,
                     std::int64_t head_size, float scale, float* scores, TileAhead& ahead) {
    const std::int64_t steps = A::query_steps(head_size) / tile_units;
    const int begin = first / tile_units * tile_units, end = static_cast<int>(in_whole_tiles(last, tile_units));
    const auto multiply = [&]<int Lefts>(TileSums<Lefts> sums, int key) __attribute__((always_inline)) {
      ahead.fetch_share();
      sums.clear();
      for (std::int64_t i = 0; i < steps; ++i)
        sums.add(keys + key * stride + i * step, stride * std::int64_t{sizeof(Element)},
                 query + i * tile_units * tile_rows<float>);
      sums.store(scores + key * tile_rows<float>);
    };
    int key = begin;
    for (; key + 2 * tile_units <= end; key += 2 * tile_units) multiply(TileSums<2>(), key);
    if (key < end) multiply(TileSums<1>(), key);
    if (scale == 1.0f) return;
    for (int i = first * tile_rows<float>; i < last * tile_rows<float>; i += lanes<float>)
      store(scores + i, load(scores + i) * broadcast<float>(scale));
  }

  static bool all_finite(const Element* values, std::int64_t stride, int first, int last, std::int64_t value_size) {
    mask_vec<float> found{};
    for (int key = first; key < last; key += step)
      for (std::int64_t d = 0; d < value_size; ++d) {
        const NotFinite bad(load_pairs(values + key / step * stride + d * step));
        found = found | bad.first | bad.second;
      }
    return !any<float>(found);
  }

  static void values(const Element* values, std::int64_t stride, int first, int last, const float* weights,
                     std::int64_t value_size, const vec<float>* correction, float* accumulated, float* used,
                     TileAhead& ahead) {
    if (correction != nullptr) correct(correction, value_size, accumulated);
    const std::int64_t rows = A::value_rows(value_size);
    const auto add = [&]<int Lefts>(TileSums<Lefts> sums, std::int64_t d) __attribute__((always_inline)) {
      ahead.fetch_share();
      add_columns(sums, first, last, weights, correction != nullptr, accumulated + d * tile_rows<float>,
                  [&](int key) __attribute__((always_inline)) { return values + key / step * stride + d * step; });
    };
    std::int64_t d = 0;
    for (; d + 2 * tile_units <= rows; d += 2 * tile_units) add(TileSums<2>(), d);
    if (d < rows) add(TileSums<1>(), d);
    add_weights(first, last, weights, used);
  }

  // Where values are not finite a weight of 0 would make them NaN: zeros stand for such values, and what they add to
  // the rows that see them is added one by one. So the other rows get the bits that finite values give them.
  static void seen_values(const Element* values, std::int64_t stride, int first, int last, const float* weights,
                          std::int64_t value_size, const vec<float>* correction, float* accumulated, float* used) {
    if (correction != nullptr) correct(correction, value_size, accumulated);
    alignas(64) Element cleared[A::key_block / step][tile_units * step];
    for (std::int64_t d = 0; d < value_size; d += tile_units) {
      for (int key = first; key < last; key += step)
        for (int i = 0; i < tile_units * step; i += step) {
          const u32v pairs = load_pairs(values + key / step * stride + d * step + i);
          const NotFinite bad(pairs);
          const u32v kept =
              pairs & ~((bit_cast<u32v>(bad.first) & 0xffffu) | (bit_cast<u32v>(bad.second) & 0xffff0000u));
          __builtin_memcpy(cleared[key / step] + i, &kept, sizeof kept);
        }
      add_columns(TileSums<1>(), first, last, weights, correction != nullptr, accumulated + d * tile_rows<float>,
                  [&](int key) __attribute__((always_inline)) { return cleared[key / step]; });
    }
    for (int key = first; key < last; ++key)
      for (std::int64_t d = 0; d < value_size; ++d) {
        const Element element = values[key / step * stride + d * step + key % step];
        const float value = bit_cast<float>(std::uint32_t{element.bits} << 16);
        if (!__builtin_isfinite(value)) add_seen_value(value, key, weights, accumulated + d * tile_rows<float>);
      }
    add_weights(first, last, weights, used);
  }

 private:
  struct NotFinite {
    mask_vec<float> first, second;  // of a pair
    explicit NotFinite(u32v pairs)
        : first((pairs & 0x7f80u) == u32v{} + 0x7f80u), second((pairs & 0x7f800000u) == u32v{} + 0x7f800000u) {}
  };

  // 16 or 32 columns of values, two registers of rows each; left_of(key) are those of 32 keys.
  template <int Lefts, class LeftOf>
  ATTNLIB_INLINE void add_columns(TileSums<Lefts> sums, int first, int last, const float* weights, bool resume,
                                  float* accumulated, LeftOf left_of) {
    if (resume)
      sums.load(accumulated);
    else
      sums.clear();
    for (int key = first; key < last; key += step)
      sums.add(left_of(key), tile_bytes, weights + key / 2 * tile_rows<float>);
    sums.store(accumulated);
  }

  static void add_seen_value(float value, int key, const float* weights, float* sums) {
    for (int v = 0; v < tile_vectors; ++v) {
      const u32v pairs = load_pairs(weights + key / 2 * tile_rows<float> + v * lanes<float>);
      const vec<float> weight = key % 2 == 0 ? first_of_pairs(pairs) : second_of_pairs(pairs);
      const vec<float> sum = load(sums + v * lanes<float>);
      store(sums + v * lanes<float>, weight == zero<float>() ? sum : fma(weight, broadcast<float>(value), sum));
    }
  }

  // used += sum_key weights, as a value of 1 would be summed up: one row of ones, read as all rows of a tile, and the
  // result's rows written one over the other.
  static void add_weights(int first, int last, const float* weights, float* used) {
    alignas(64) static constexpr u32v ones = u32v{} + 0x3f803f80u;
    alignas(64) float sums[tile_rows<float>];
    TileSums<1>::clear();
    load_tile<4>(&ones, 0);
    for (int key = first; key < last; key += step) {
      load_tile<6>(weights + key / 2 * tile_rows<float>, row_bytes);
      load_tile<7>(weights + key / 2 * tile_rows<float> + tile_units, row_bytes);
      Bfloat16Tiles::multiply_add<0, 4, 6>();
      Bfloat16Tiles::multiply_add<1, 4, 7>();
    }
    store_tile<0>(sums, 0);
    store_tile<1>(sums + tile_units, 0);
    for (int i = 0; i < tile_rows<float>; i += lanes<float>) store(used + i, load(used + i) + load(sums + i));
  }

  // What has been summed up is worth less, if a reference rose.
  static void correct(const vec<float>* correction, std::int64_t value_size, float* accumulated) {
    const vec<float> one = broadcast<float>(1.0f);
    if (!any<float>((correction[0] != one) | (correction[1] != one))) return;
    for (std::int64_t d = 0; d < value_size; ++d)
      for (int v = 0; v < tile_vectors; ++v) {
        float* const place = accumulated + d * tile_rows<float> + v * lanes<float>;
        store(place, load(place) * correction[v]);
      }
  }
};

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
