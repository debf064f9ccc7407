// In which order the axes of arrays lie in memory. In it elementwise operations go through arrays whose last axis is
// not contiguous but another is, and give their results the same layout, as NumPy's do.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <vector>

#include "attnlib/tensor_view.hpp"

namespace attnlib::bindings {

// Axes by how far apart their elements lie, the farthest first; none for the order that they have.
using AxisOrder = std::vector<int>;

inline TensorView in_order(const TensorView& view, const AxisOrder& order) {
  TensorView result = view;
  for (std::size_t i = 0; i < order.size(); ++i) {
    result.shape[static_cast<int>(i)] = view.shape[order[i]];
    result.strides[static_cast<int>(i)] = view.strides[order[i]];
  }
  return result;
}

// The order in which all these are contiguous along the last axis; none if they are as they are, or in no order.
inline AxisOrder memory_order(std::initializer_list<TensorView> views) {
  const TensorView& first = *views.begin();
  const auto contiguous = [](const TensorView& view) { return view.has_contiguous_last_axis(); };
  if (std::all_of(views.begin(), views.end(), contiguous)) return {};
  AxisOrder order(static_cast<std::size_t>(first.rank()));
  std::iota(order.begin(), order.end(), 0);
  // An axis of one element lies nowhere: outermost, it is in nobody's way.
  const auto distance = [&](int axis) {
    return first.shape[axis] == 1 ? std::numeric_limits<std::int64_t>::max() : std::abs(first.strides[axis]);
  };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return distance(a) > distance(b); });
  const auto fits = [&](const TensorView& view) {
    return view.shape == first.shape && in_order(view, order).has_contiguous_last_axis();
  };
  return std::all_of(views.begin(), views.end(), fits) ? order : AxisOrder();
}

}  // namespace attnlib::bindings
