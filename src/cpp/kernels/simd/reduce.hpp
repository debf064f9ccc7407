// Summing as many registers as a register has lanes, each to one lane of the result.
#pragma once

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {

// Two registers, each of sums over groups of `distance` lanes, become one of sums over groups twice as large: in lanes
// whose number has that bit those of b. Two blends, a shuffle and an add.
template <class C, int distance>
ATTNLIB_INLINE vec<C> add_neighbours(vec<C> a, vec<C> b) {
  mask_vec<C> own{}, other{};
  for (int lane = 0; lane < lanes<C>; ++lane) {
    const bool of_b = (lane & distance) != 0;
    own[lane] = of_b ? lane + lanes<C> : lane;
    other[lane] = of_b ? lane : lane + lanes<C>;
  }
  return pick_lanes<C>(a, b, own) + exchange_lanes<C>(pick_lanes<C>(a, b, other), distance);
}

// Lane i of the result is the sum over a group of count * distance lanes of rows[i / distance % count], where groups of
// `distance` lanes have been added up already, and rows are of as many groups: log2(count) rounds, count - 1 steps in
// all. With a distance of 1 and as many rows as a register has lanes, it is the sum over all lanes of rows[i]. The
// order depends on the register width alone.
template <class C, int count, int distance = 1>
ATTNLIB_INLINE vec<C> add_transposed(const vec<C>* rows) {
  if constexpr (count == 1)
    return rows[0];
  else
    return add_neighbours<C, distance * count / 2>(add_transposed<C, count / 2, distance>(rows),
                                                   add_transposed<C, count / 2, distance>(rows + count / 2));
}

}  // namespace attnlib::ATTNLIB_ISA
