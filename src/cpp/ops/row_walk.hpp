// Walks the rows of several arrays of one shape in step, as few and as long runs of evenly spaced rows: what the
// row-wise operations hand to their kernels.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "attnlib/tensor_view.hpp"
#include "kernels/row_parts.hpp"

namespace attnlib {

template <std::size_t Arrays>
class RowWalk {
 public:
  using Offsets = std::array<std::int64_t, Arrays>;

  // The first `axes` axes of `shape`; strides[a] are those of array a. Axes that are evenly spaced in every array are
  // merged into one.
  RowWalk(const Shape& shape, const std::array<Shape, Arrays>& strides, int axes) {
    for (int axis = axes - 1; axis >= 0; --axis) {
      if (shape[axis] == 1) continue;
      Offsets step;
      for (std::size_t a = 0; a < Arrays; ++a) step[a] = strides[a][axis];
      if (axes_ > 0 && continues(step)) {
        extents_[axes_ - 1] *= shape[axis];
      } else {
        extents_[axes_] = shape[axis];
        steps_[axes_++] = step;
      }
    }
  }

  // Removes the innermost axis if it is contiguous in every array; its extent, else 1.
  std::int64_t take_contiguous_axis() {
    if (axes_ == 0) return 1;
    for (std::int64_t step : steps_[0])
      if (step != 1) return 1;
    const std::int64_t extent = extents_[0];
    --axes_;
    std::copy_n(extents_.begin() + 1, axes_, extents_.begin());
    std::copy_n(steps_.begin() + 1, axes_, steps_.begin());
    return extent;
  }

  std::int64_t rows() const {
    std::int64_t product = 1;
    for (std::size_t axis = 0; axis < axes_; ++axis) product *= extents_[axis];
    return product;
  }

  // Calls body(offsets, steps, count) for every run of rows of begin..end-1 that are one step apart in each array.
  template <class Body>
  void for_each_run(std::int64_t begin, std::int64_t end, Body&& body) const {
    const std::int64_t inner = axes_ == 0 ? 1 : extents_[0];
    for (std::int64_t row = begin; row < end;) {
      const std::int64_t count = std::min(inner - row % inner, end - row);
      Offsets offsets{};
      std::int64_t index = row;
      for (std::size_t axis = 0; axis < axes_; ++axis) {
        for (std::size_t a = 0; a < Arrays; ++a) offsets[a] += (index % extents_[axis]) * steps_[axis][a];
        index /= extents_[axis];
      }
      body(offsets, axes_ == 0 ? Offsets{} : steps_[0], count);
      row += count;
    }
  }

 private:
  bool continues(const Offsets& step) const {
    for (std::size_t a = 0; a < Arrays; ++a)
      if (step[a] != steps_[axes_ - 1][a] * extents_[axes_ - 1]) return false;
    return true;
  }

  // Innermost first.
  std::size_t axes_ = 0;
  std::array<std::int64_t, max_rank> extents_{};
  std::array<Offsets, max_rank> steps_{};
};

// Elements a task should take: some thousand at least, so that its start costs nothing, and so many that threads have
// eight each: within a task rows follow one another, and are fetched before their turn. At most so many that a call of
// the usual size is one task for one thread, but a long call can be interrupted between them. Whole cache lines.
inline std::int64_t elements_per_task(std::int64_t all, int threads) {
  constexpr std::int64_t most = std::int64_t{1} << 20;
  return threads > 1 ? std::clamp<std::int64_t>(all / (8 * threads) / 1024 * 1024, 16384, most) : most;
}

// The same in rows.
inline std::int64_t rows_per_task(std::int64_t rows, std::int64_t row_elements, int threads) {
  return std::clamp<std::int64_t>(
      elements_per_task(rows * row_elements, threads) / std::max<std::int64_t>(row_elements, 1), 1,
      std::max<std::int64_t>(rows, 1));
}

// Whether so few and long rows are better divided than dealt out.
inline bool divides_rows(std::int64_t rows, std::int64_t row_elements, int threads) {
  return threads > 1 && rows < 2 * threads && row_elements >= 2 * row_part;
}

// The parts' sums added in their order and in the type that `dtype` is computed in, as a kernel adds them: in double,
// then rounded, a sum of two floats has the bits of their sum in float.
inline double sum_parts(const std::vector<double>& parts, DType dtype) {
  double sum = 0.0;
  for (const double part : parts) sum = dtype == DType::float64 ? sum + part : static_cast<float>(sum + part);
  return sum;
}

}  // namespace attnlib
