// A typed, strided window on memory that somebody else owns: what every operation takes and fills.
//
// What holds for all operations of these headers:
//   memory   is the caller's, results too; views are read during the call only. Inputs are not written to, so what is
//            const may be one.
//   shapes   whatever inputs may get wrong is checked, by the operation or by the function beside it that gives the
//            result's shape (matmul_shape, attention_shapes, ...), to be called first: std::invalid_argument, which
//            begins with the operation's name and shows the shapes found.
//   results  have the shape that this function gives and share no memory with inputs, unless the header allows it.
//            That, and dtypes and contiguous axes, of inputs too, are taken on trust.
//   errors   std::bad_alloc for want of scratch memory. After an exception what a result holds is not known.
//   threads  any number of threads may call at once, also after fork().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "attnlib/dtype.hpp"

namespace attnlib {

inline constexpr int max_rank = 16;

inline std::int64_t dtype_size(DType dtype) { return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2; }
inline const char* dtype_name(DType dtype) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16"};
  return names[static_cast<int>(dtype)];
}

// A shape of at most max_rank axes, by value and without a heap; strides are Shapes, too.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) {
    for (std::int64_t extent : extents) push_back(extent);
  }
  explicit Shape(std::span<const std::int64_t> extents) {
    for (std::int64_t extent : extents) push_back(extent);
  }
  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return extents_[static_cast<std::size_t>(axis)]; }
  std::int64_t& operator[](int axis) { return extents_[static_cast<std::size_t>(axis)]; }
  // Axes counted from the end: from_end(1) is the last one.
  std::int64_t from_end(int axis) const { return extents_[static_cast<std::size_t>(rank_ - axis)]; }
  const std::int64_t* begin() const { return extents_.data(); }
  const std::int64_t* end() const { return extents_.data() + rank_; }
  void push_back(std::int64_t extent);  // std::invalid_argument beyond max_rank axes
  Shape first(int count) const { return Shape(std::span(extents_.data(), static_cast<std::size_t>(count))); }
  std::int64_t size() const;      // the product of the extents
  std::string to_string() const;  // "(2, 3)", "(4,)", "()"
  friend bool operator==(const Shape& a, const Shape& b);

 private:
  int rank_ = 0;
  std::array<std::int64_t, max_rank> extents_{};
};

// Strides count elements, not bytes, and may be zero or negative.
template <class Element>
struct StridedView {
  Element* data = nullptr;
  Shape shape;
  Shape strides;

  int rank() const { return shape.rank(); }
  std::int64_t size() const { return shape.size(); }
};

struct TensorView : StridedView<void> {
  DType dtype = DType::float32;

  std::byte* at(std::int64_t element_offset) const {
    return static_cast<std::byte*>(data) + element_offset * dtype_size(dtype);
  }
  // Axes of extent 1 have any stride; so has an empty view.
  bool has_contiguous_last_axis() const { return rank() == 0 || shape.from_end(1) <= 1 || strides.from_end(1) == 1; }
  bool is_contiguous() const;
};

// The window on a C-contiguous (row-major) array, as a std::vector or malloc holds it.
TensorView contiguous_view(const void* data, const Shape& shape, DType dtype);

using BoolView = StridedView<const bool>;

// The shape that NumPy broadcasts a and b to; std::invalid_argument, beginning with `context`, if there is none.
Shape broadcast_shapes(const Shape& a, const Shape& b, const std::string& context);

// Strides of a view of `shape` seen as `target`: zero along every axis that broadcasting adds or widens.
Shape broadcast_strides(const Shape& shape, const Shape& strides, const Shape& target, const std::string& context);

// The offset, in elements, of entry `index` (row-major) of an array with these leading extents and strides.
std::int64_t offset_of(std::int64_t index, const Shape& extents, const Shape& strides, int leading_axes);

}  // namespace attnlib
