// Summing as many registers as a register has lanes, each to one lane of the result.
#pragma once

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {

// Lane i of the result is the sum over the lanes of rows[i]. Halves meet in log2(lanes) rounds: lanes - 1 steps of a
// blend, a shuffle and an add in all. The order depends on the register width alone.
template <class C>
ATTNLIB_INLINE vec<C> add_transposed(vec<C> (&rows)[lanes<C>]) {
  constexpr int width = lanes<C>;
#pragma GCC unroll 8
  for (int distance = 1; distance < width; distance *= 2) {
    mask_vec<C> own{}, other{};
    for (int lane = 0; lane < width; ++lane) {
      own[lane] = (lane & distance) != 0 ? lane + width : lane;
      other[lane] = (lane & distance) != 0 ? lane - distance + width : lane + distance;
    }
#pragma GCC unroll 16
    for (int row = 0; row < width; row += 2 * distance) {
      const vec<C> a = rows[row], b = rows[row + distance];
      rows[row] = pick_lanes<C>(a, b, own) + pick_lanes<C>(a, b, other);
    }
  }
  return rows[0];
}

}  // namespace attnlib::ATTNLIB_ISA
