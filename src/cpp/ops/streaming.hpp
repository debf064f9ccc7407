// Which results of row-wise operations are written past the caches.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "attnlib/runtime.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

// Results that no cache holds until they are read next. A cache line that is stored as usual is first read from memory,
// and written back later; streamed, it is written once. Smaller ones are left in the caches for who reads them: a
// single thread cannot keep the third-level cache busy and gains from 8 MB on, whoever reads the result included; with
// several, reading it back through the caches is faster up to 24 MB (docs/performance.md).
inline std::int64_t least_streamed_bytes() { return std::int64_t{get_num_threads() == 1 ? 8 : 24} << 20; }

// Whether to stream a result of rows along `axis`: a large one, of a type that is not widened to be computed, not
// written over what was read, and whose rows begin with cache lines: one that two rows share would be written by
// halves.
inline bool worth_streaming(const TensorView& out, int axis, std::initializer_list<const TensorView*> inputs) {
  constexpr std::int64_t line = 64;
  const std::int64_t size = dtype_size(out.dtype);
  if (axis < 0 || size < 4 || out.size() * size < least_streamed_bytes() || out.strides[axis] != 1) return false;
  if (reinterpret_cast<std::uintptr_t>(out.data) % line != 0) return false;
  for (const TensorView* input : inputs)
    if (input != nullptr && input->data == out.data) return false;
  for (int other = 0; other < out.rank(); ++other)
    if (other != axis && out.shape[other] > 1 && out.strides[other] * size % line != 0) return false;
  return true;
}

}  // namespace attnlib
