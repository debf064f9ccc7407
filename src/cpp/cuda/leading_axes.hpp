// The leading axes of an operation's arrays, walked by one index: block n of a grid works on matrix n of a batch, whose
// arrays may be strided, or broadcast along some axes (stride 0).
#pragma once

#include <cstdint>

#include "cuda/host_device.hpp"

namespace attnlib::cuda {

constexpr int max_leading_axes = 8;

// Plain data: it travels as a kernel's parameter.
template <int arrays>
struct LeadingAxes {
  int rank = 0;
  std::int64_t extents[max_leading_axes] = {};
  std::int64_t strides[arrays][max_leading_axes] = {};

  // The element offset, in each array, of entry `index` (row-major).
  ATTNLIB_HOST_DEVICE void offsets(std::int64_t index, std::int64_t (&offsets)[arrays]) const {
    for (int array = 0; array < arrays; ++array) offsets[array] = 0;
    for (int axis = rank - 1; axis >= 0; --axis) {
      const std::int64_t rest = index / extents[axis];
      const std::int64_t position = index - rest * extents[axis];
      index = rest;
      for (int array = 0; array < arrays; ++array) offsets[array] += position * strides[array][axis];
    }
  }
};

}  // namespace attnlib::cuda
