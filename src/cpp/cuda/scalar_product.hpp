// Products of 16×16 tiles by a warp without tensor cores: float32 stays float32. Each lane computes 2 × 4 elements and
// reads the factors from shared memory as it goes. The interface is that of tensor_core_product.cuh.
#pragma once

#include "cuda/host_device.hpp"

namespace attnlib::cuda {

struct ScalarProduct {
  static constexpr int elements = 8;
  struct Accumulator {
    float values[elements];
  };
  struct Left {
    const float* data;
    int leading;
  };
  struct Right : Left {};
  struct RightTransposed : Left {};

  // Element i of a lane: two rows of four neighbours.
  ATTNLIB_HOST_DEVICE static int row(int lane, int i) { return lane / 4 * 2 + i / 4; }
  ATTNLIB_HOST_DEVICE static int column(int lane, int i) { return lane % 4 * 4 + i % 4; }

  ATTNLIB_HOST_DEVICE static float& element(Accumulator& tile, int i) { return tile.values[i]; }
  ATTNLIB_HOST_DEVICE static void clear(Accumulator& tile) {
    ATTNLIB_UNROLL
    for (int i = 0; i < elements; ++i) tile.values[i] = 0;
  }
  template <class Thread>
  ATTNLIB_HOST_DEVICE static void load(const Thread&, Left& tile, const float* data, int leading) {
    tile.data = data;
    tile.leading = leading;
  }
  template <class Thread>
  ATTNLIB_HOST_DEVICE static void load(const Thread& thread, Accumulator& tile, const float* data, int leading) {
    ATTNLIB_UNROLL
    for (int i = 0; i < elements; ++i)
      tile.values[i] = data[row(thread.lane(), i) * leading + column(thread.lane(), i)];
  }
  template <class Thread>
  ATTNLIB_HOST_DEVICE static void store(const Thread& thread, float* data, int leading, const Accumulator& tile) {
    ATTNLIB_UNROLL
    for (int i = 0; i < elements; ++i)
      data[row(thread.lane(), i) * leading + column(thread.lane(), i)] = tile.values[i];
  }
  template <class Thread>
  ATTNLIB_HOST_DEVICE static void multiply_add(const Thread& thread, Accumulator& tile, const Left& left,
                                               const Right& right) {
    accumulate(thread.lane(), tile, left, right.data, right.leading, 1);
  }
  template <class Thread>
  ATTNLIB_HOST_DEVICE static void multiply_add(const Thread& thread, Accumulator& tile, const Left& left,
                                               const RightTransposed& right) {
    accumulate(thread.lane(), tile, left, right.data, 1, right.leading);
  }

 private:
  ATTNLIB_HOST_DEVICE static void accumulate(int lane, Accumulator& tile, const Left& left, const float* right,
                                             int step, int column_step) {
    ATTNLIB_ROLLED
    for (int k = 0; k < 16; ++k) {
      ATTNLIB_UNROLL
      for (int i = 0; i < elements; ++i)
        tile.values[i] += left.data[row(lane, i) * left.leading + k] * right[k * step + column(lane, i) * column_step];
    }
  }
};

}  // namespace attnlib::cuda
