// Whether views have memory in common, by the bytes between their first and last element: yes where they may.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <utility>
#include <vector>

#include "attnlib/tensor_view.hpp"

namespace attnlib::bindings {

inline std::int64_t element_size(const TensorView& view) { return dtype_size(view.dtype); }
inline std::int64_t element_size(const BoolView&) { return 1; }

// The first and one past the last byte that a view touches.
template <class View>
std::pair<std::uintptr_t, std::uintptr_t> extent_of(const View& view) {
  const auto base = reinterpret_cast<std::uintptr_t>(view.data);
  if (view.shape.size() == 0) return {base, base};
  std::int64_t low = 0, high = 1;
  for (int axis = 0; axis < view.shape.rank(); ++axis) {
    const std::int64_t reach = (view.shape[axis] - 1) * view.strides[axis];
    (reach < 0 ? low : high) += reach;
  }
  const std::int64_t size = element_size(view);
  return {base + static_cast<std::uintptr_t>(low * size), base + static_cast<std::uintptr_t>(high * size)};
}

template <class View>
bool may_overlap(const TensorView& a, const View& b) {
  const auto [a_low, a_high] = extent_of(a);
  const auto [b_low, b_high] = extent_of(b);
  // Where a view of nothing points to says nothing: a part of an empty array may point into another one.
  if (a_low == a_high || b_low == b_high) return false;
  return a_low < b_high && b_low < a_high;
}

// Whether several elements may be one: no for any view that slicing, transposing and reshaping make of an array.
inline bool may_overlap_itself(const TensorView& view) {
  if (view.size() == 0) return false;
  std::vector<std::pair<std::int64_t, std::int64_t>> axes;  // distance, extent
  for (int axis = 0; axis < view.rank(); ++axis)
    if (view.shape[axis] > 1) axes.emplace_back(std::abs(view.strides[axis]), view.shape[axis]);
  std::sort(axes.begin(), axes.end());
  std::int64_t reach = 0;
  for (const auto& [distance, extent] : axes) {
    if (distance <= reach) return true;
    reach += (extent - 1) * distance;
  }
  return false;
}

inline bool same_window(const TensorView& a, const TensorView& b) {
  return a.data == b.data && a.dtype == b.dtype && a.shape == b.shape && a.strides == b.strides;
}

}  // namespace attnlib::bindings
