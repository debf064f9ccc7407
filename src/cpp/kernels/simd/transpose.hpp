// Transposing a square block that fills as many registers as a register has lanes.
#pragma once

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {

template <class C>
ATTNLIB_INLINE vec<C> shuffle_pair(vec<C> a, vec<C> b, mask_vec<C> index) {
#if defined(__clang__)
  vec<C> result{};
  for (int lane = 0; lane < lanes<C>; ++lane)
    result[lane] = index[lane] < lanes<C> ? a[index[lane]] : b[index[lane] - lanes<C>];
  return result;
#else
  return __builtin_shuffle(a, b, index);
#endif
}

// rows[i][j] <-> rows[j][i], in log2(lanes) rounds: round d exchanges the off-diagonal d x d blocks of every 2d x 2d
// block, two shuffles for each pair of rows.
template <class C>
ATTNLIB_INLINE void transpose(vec<C> (&rows)[lanes<C>]) {
#if defined(ATTNLIB_TRANSPOSE_FLOATS)
  if constexpr (sizeof(C) == 4) return transpose_floats(rows);
#endif
  constexpr int width = lanes<C>;
#pragma GCC unroll 8
  for (int distance = 1; distance < width; distance *= 2) {
    mask_vec<C> upper{}, lower{};
    for (int lane = 0; lane < width; ++lane) {
      upper[lane] = (lane & distance) != 0 ? lane - distance + width : lane;
      lower[lane] = (lane & distance) != 0 ? lane + width : lane + distance;
    }
#pragma GCC unroll 16
    for (int row = 0; row < width; ++row) {
      if ((row & distance) != 0) continue;
      const vec<C> a = rows[row], b = rows[row + distance];
      rows[row] = shuffle_pair<C>(a, b, upper);
      rows[row + distance] = shuffle_pair<C>(a, b, lower);
    }
  }
}

}  // namespace attnlib::ATTNLIB_ISA
