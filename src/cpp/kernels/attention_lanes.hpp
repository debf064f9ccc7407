// Into and out of the lanes: rows of memory become columns of a tile and back, a square block of registers at a time.
#pragma once

#include "kernels/attention_products.hpp"
#include "kernels/simd/transpose.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// target[j][row] = rows[row][j] for `count` columns j: pointer_of(row) gives the address of a row's column 0, `Load`
// (pointer, column, columns left) a register of its next columns. Lanes beyond `used` repeat the last row.
template <class C, class PointerOf, class Load>
ATTNLIB_INLINE void gather_transposed(int used, std::int64_t count, C* target, PointerOf pointer_of,
                                      Load load_columns) {
  for (int group = 0; group < tile_vectors; ++group) {
    decltype(pointer_of(0)) pointers[lanes<C>];
    for (int lane = 0; lane < lanes<C>; ++lane) {
      const int row = group * lanes<C> + lane;
      pointers[lane] = pointer_of(row < used ? row : used - 1);
    }
    for (std::int64_t j = 0; j < count; j += lanes<C>) {
      const int left = static_cast<int>(count - j < lanes<C> ? count - j : static_cast<std::int64_t>(lanes<C>));
      vec<C> rows[lanes<C>];
#pragma GCC unroll 16
      for (int lane = 0; lane < lanes<C>; ++lane) rows[lane] = load_columns(pointers[lane], j, left);
      transpose<C>(rows);
#pragma GCC unroll 16
      for (int i = 0; i < lanes<C>; ++i)
        if (i < left) store(target + (j + i) * tile_rows<C> + group * lanes<C>, rows[i]);
    }
  }
}

// rows[row][j] = source[j][row] * factor[row] for the first `used` rows, in T.
template <class T, class C, class PointerOf>
ATTNLIB_INLINE void scatter_transposed(int used, std::int64_t count, const C* source, const C* factor,
                                       PointerOf pointer_of) {
  for (int first = 0; first < used; first += lanes<C>) {
    const int present = used - first < lanes<C> ? used - first : lanes<C>;
    const vec<C> scale = load(factor + first);
    T* pointers[lanes<C>];
    for (int lane = 0; lane < present; ++lane) pointers[lane] = pointer_of(first + lane);
    for (std::int64_t j = 0; j < count; j += lanes<C>) {
      const int left = static_cast<int>(count - j < lanes<C> ? count - j : static_cast<std::int64_t>(lanes<C>));
      vec<C> rows[lanes<C>];
#pragma GCC unroll 16
      for (int i = 0; i < lanes<C>; ++i)
        rows[i] = i < left ? load(source + (j + i) * tile_rows<C> + first) * scale : zero<C>();
      transpose<C>(rows);
      if (left == lanes<C> && present == lanes<C>) {
#pragma GCC unroll 16
        for (int lane = 0; lane < lanes<C>; ++lane) store(pointers[lane] + j, rows[lane]);
        continue;
      }
      for (int lane = 0; lane < present; ++lane) {
        if (left == lanes<C>)
          store(pointers[lane] + j, rows[lane]);
        else
          store_partial(pointers[lane] + j, rows[lane], left);
      }
    }
  }
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
