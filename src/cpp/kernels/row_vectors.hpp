// How a row of numbers is walked one register at a time, so that every reduction over it has an order that depends on
// the row's length and the rung alone.
#pragma once

#include "kernels/row_parts.hpp"
#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {

// Independent accumulators ("chains") of a reduction: an add has a latency of 3 to 4 cycles and one or two can start
// in each, so that four chains keep the adders busy while the loads keep up.
inline constexpr int row_chains = 4;

// Calls visit(offset, count, chain) for the registers of a row of n elements; count is less than lanes<C> in the last
// call at most. Registers beyond the last full group of four go to chain 0.
template <class C, class Visit>
ATTNLIB_INLINE void for_each_vector(std::int64_t n, Visit visit) {
  constexpr int width = lanes<C>;
  std::int64_t offset = 0;
  for (; offset + row_chains * width <= n; offset += row_chains * width) {
    visit(offset, width, 0);
    visit(offset + width, width, 1);
    visit(offset + 2 * width, width, 2);
    visit(offset + 3 * width, width, 3);
  }
  for (; offset + width <= n; offset += width) visit(offset, width, 0);
  if (offset < n) visit(offset, static_cast<int>(n - offset), 0);
}

// The chains of one reduction joined, in a fixed order.
template <class C>
ATTNLIB_INLINE C sum_chains(const vec<C> (&chain)[row_chains]) {
  return reduce_add<C>((chain[0] + chain[1]) + (chain[2] + chain[3]));
}
// A NaN may be lost.
template <class C>
ATTNLIB_INLINE C max_chains(const vec<C> (&chain)[row_chains]) {
  vec<C> value = max(max(chain[0], chain[1]), max(chain[2], chain[3]));
#pragma GCC unroll 4
  for (int width = lanes<C> / 2; width > 0; width /= 2) value = max(value, exchange_lanes<C>(value, width));
  return value[0];
}

// Calls visit(offset, count) for the parts of a row.
template <class Visit>
ATTNLIB_INLINE void for_each_part(std::int64_t n, Visit visit) {
  for (std::int64_t offset = 0; offset < n; offset += row_part)
    visit(offset, n - offset < row_part ? n - offset : row_part);
}

// How many rows of n elements make a group of at most `elements`.
ATTNLIB_INLINE int rows_in_group(std::int64_t n, std::int64_t elements) {
  if (n * row_group_rows <= elements) return row_group_rows;
  return n < elements ? static_cast<int>(elements / n) : 1;
}

// A full register, or the first `count` lanes of one and zeros.
template <class T>
ATTNLIB_INLINE vec<compute_type<T>> load_lanes(const T* source, int count) {
  return count < lanes<compute_type<T>> ? load_partial(source, count) : load(source);
}
template <class T>
ATTNLIB_INLINE void store_lanes(T* target, vec<compute_type<T>> value, int count) {
  if (count < lanes<compute_type<T>>)
    store_partial(target, value, count);
  else
    store(target, value);
}

// Whether results of type T can be streamed past the caches: narrower ones than the compute type are not.
template <class T>
inline constexpr bool streamable = sizeof(T) == sizeof(compute_type<T>);

// The same, `streamed` past the caches where it is a whole register, of a row that begins with a cache line.
template <bool streamed, class T>
ATTNLIB_INLINE void store_result(T* target, vec<compute_type<T>> value, int count) {
  if constexpr (streamed && streamable<T>) {
    if (count == lanes<compute_type<T>>) return stream(target, value);
  }
  store_lanes(target, value, count);
}

// The first `count` lanes of `value`, `padding` in the others.
template <class C>
ATTNLIB_INLINE vec<C> pad_lanes(vec<C> value, int count, C padding) {
  if (count >= lanes<C>) return value;
  return lane_index<C>() < broadcast_integer<C>(static_cast<lane_integer<C>>(count)) ? value : broadcast<C>(padding);
}

}  // namespace attnlib::ATTNLIB_ISA
