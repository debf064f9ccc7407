#include "attnlib/tensor_view.hpp"

#include <algorithm>
#include <stdexcept>

namespace attnlib {

void Shape::push_back(std::int64_t extent) {
  if (rank_ == max_rank) throw std::invalid_argument("arrays of more than 16 dimensions are not supported");
  extents_[static_cast<std::size_t>(rank_++)] = extent;
}

std::int64_t Shape::size() const {
  std::int64_t product = 1;
  for (std::int64_t extent : *this) product *= extent;
  return product;
}

std::string Shape::to_string() const {
  std::string text = "(";
  for (int axis = 0; axis < rank_; ++axis) {
    text += std::to_string((*this)[axis]);
    if (axis + 1 < rank_) text += ", ";
  }
  return text + (rank_ == 1 ? ",)" : ")");
}

bool operator==(const Shape& a, const Shape& b) { return std::equal(a.begin(), a.end(), b.begin(), b.end()); }

bool TensorView::is_contiguous() const {
  std::int64_t expected = 1;
  for (int axis = rank() - 1; axis >= 0; --axis) {
    if (shape[axis] == 0) return true;
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
}

TensorView contiguous_view(const void* data, const Shape& shape, DType dtype) {
  TensorView view;
  view.data = const_cast<void*>(data);
  view.dtype = dtype;
  view.shape = view.strides = shape;
  std::int64_t stride = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    view.strides[axis] = stride;
    stride *= shape[axis];
  }
  return view;
}

Shape broadcast_shapes(const Shape& a, const Shape& b, const std::string& context) {
  const int rank = std::max(a.rank(), b.rank());
  Shape result;
  for (int axis = 0; axis < rank; ++axis) {
    const int from_end = rank - axis;
    const std::int64_t left = from_end <= a.rank() ? a.from_end(from_end) : 1;
    const std::int64_t right = from_end <= b.rank() ? b.from_end(from_end) : 1;
    if (left != right && left != 1 && right != 1)
      throw std::invalid_argument(context + ": shapes " + a.to_string() + " and " + b.to_string() +
                                  " do not broadcast");
    result.push_back(left == 1 ? right : left);
  }
  return result;
}

Shape broadcast_strides(const Shape& shape, const Shape& strides, const Shape& target, const std::string& context) {
  if (shape.rank() > target.rank())
    throw std::invalid_argument(context + " of shape " + shape.to_string() + " does not broadcast to " +
                                target.to_string());
  const int added = target.rank() - shape.rank();
  Shape result;
  for (int axis = 0; axis < target.rank(); ++axis) {
    const std::int64_t extent = axis < added ? 1 : shape[axis - added];
    if (extent != target[axis] && extent != 1)
      throw std::invalid_argument(context + " of shape " + shape.to_string() + " does not broadcast to " +
                                  target.to_string());
    result.push_back(extent == 1 ? 0 : strides[axis - added]);
  }
  return result;
}

std::int64_t offset_of(std::int64_t index, const Shape& extents, const Shape& strides, int leading_axes) {
  std::int64_t offset = 0;
  for (int axis = leading_axes - 1; axis >= 0; --axis) {
    offset += (index % extents[axis]) * strides[axis];
    index /= extents[axis];
  }
  return offset;
}

}  // namespace attnlib
