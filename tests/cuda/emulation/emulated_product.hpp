// Tensor cores on a CPU: the interface of cuda::TensorCoreProduct, with a layout of accumulators that no hardware has,
// so that an algorithm that took some layout for granted would fail.
#pragma once

#include "cuda/number.hpp"

namespace attnlib::emulation {

template <class Element>
struct Product {
  static constexpr int elements = 8;
  struct Accumulator {
    float values[elements];
  };
  struct Factor {
    Element values[16][16];
  };
  struct Left : Factor {};
  struct Right : Factor {};
  struct RightTransposed : Factor {};

  // Lanes and elements scattered over the tile: an odd multiplier makes it a permutation of 256.
  static int place(int lane, int i) { return (lane * elements + i) * 93 % 256; }

  static float& element(Accumulator& tile, int i) { return tile.values[i]; }
  static void clear(Accumulator& tile) {
    for (float& value : tile.values) value = 0;
  }
  template <class Thread>
  static void load(const Thread&, Factor& tile, const Element* data, int leading) {
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 16; ++column) tile.values[row][column] = data[row * leading + column];
  }
  template <class Thread>
  static void load(const Thread& thread, Accumulator& tile, const float* data, int leading) {
    for (int i = 0; i < elements; ++i) {
      const int at = place(thread.lane(), i);
      tile.values[i] = data[at / 16 * leading + at % 16];
    }
  }
  template <class Thread>
  static void store(const Thread& thread, float* data, int leading, const Accumulator& tile) {
    for (int i = 0; i < elements; ++i) {
      const int at = place(thread.lane(), i);
      data[at / 16 * leading + at % 16] = tile.values[i];
    }
  }
  template <class Thread>
  static void multiply_add(const Thread& thread, Accumulator& tile, const Left& left, const Right& right) {
    accumulate(thread.lane(), tile, left, [&](int k, int column) { return right.values[k][column]; });
  }
  template <class Thread>
  static void multiply_add(const Thread& thread, Accumulator& tile, const Left& left, const RightTransposed& right) {
    accumulate(thread.lane(), tile, left, [&](int k, int column) { return right.values[column][k]; });
  }

 private:
  template <class At>
  static void accumulate(int lane, Accumulator& tile, const Left& left, At right) {
    for (int i = 0; i < elements; ++i) {
      const int row = place(lane, i) / 16, column = place(lane, i) % 16;
      for (int k = 0; k < 16; ++k)
        tile.values[i] += cuda::to_float(left.values[row][k]) * cuda::to_float(right(k, column));
    }
  }
};

}  // namespace attnlib::emulation
