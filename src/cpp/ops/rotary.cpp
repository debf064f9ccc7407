#include "attnlib/rotary.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "isa/dispatch.hpp"
#include "ops/row_walk.hpp"
#include "runtime/parallel.hpp"

namespace attnlib {
namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument("rotary_embedding: " + message); }

// x (..., H, S, D) as B batches of H heads.
struct Geometry {
  int leading;  // axes before S
  std::int64_t batches = 1, heads = 1, length, features;

  explicit Geometry(const Shape& shape) : leading(shape.rank() - 2) {
    if (leading < 0) fail("x must have at least two axes, (..., H, S, D), got shape " + shape.to_string());
    for (int axis = 0; axis < leading - 1; ++axis) batches *= shape[axis];
    if (leading > 0) heads = shape[leading - 1];
    length = shape.from_end(2);
    features = shape.from_end(1);
  }

  // Whether a (B, S, ...) argument serves this x.
  bool matches(const Shape& shape) const { return (shape[0] == batches || shape[0] == 1) && shape[1] == length; }
};

void check_positions(const StridedView<const std::int64_t>& positions, const Geometry& x, const Shape& x_shape,
                     std::int64_t max_position) {
  const Shape& shape = positions.shape;
  const bool fits = shape.rank() == 1 ? shape[0] == x.length : shape.rank() == 2 && x.matches(shape);
  if (!fits)
    fail("positions must have shape (S,) or (B, S) for x (..., H, S, D) of shape " + x_shape.to_string() + ", got " +
         shape.to_string());
  const std::int64_t count = positions.size();
  for (std::int64_t i = 0; i < count; ++i)
    if (positions.data[i] < 0 || positions.data[i] >= max_position)
      fail("positions must lie in 0.." + std::to_string(max_position - 1) + ", the rows of cos and sin, got " +
           std::to_string(positions.data[i]));
}

}  // namespace

void check_rotary_embedding(const TensorView& x, const TensorView& cos, const TensorView& sin,
                            const StridedView<const std::int64_t>* positions) {
  const Geometry geometry(x.shape);
  if (!(cos.shape == sin.shape))
    fail("cos and sin must have the same shape, got " + cos.shape.to_string() + " and " + sin.shape.to_string());
  if (cos.rank() != 2 && cos.rank() != 3)
    fail("cos must have shape (max_position, R/2) or (B, S, R/2), got " + cos.shape.to_string());
  const std::int64_t planes = cos.shape.from_end(1);
  if (2 * planes > geometry.features)
    fail("cos of shape " + cos.shape.to_string() + " turns " + std::to_string(2 * planes) +
         " features, more than x of shape " + x.shape.to_string() + " has");
  const bool picked = cos.rank() == 3;
  if (picked) {
    if (positions != nullptr)
      fail("positions must be None when cos and sin are (B, S, R/2) already, got cos of shape " +
           cos.shape.to_string());
    if (!geometry.matches(cos.shape))
      fail("cos of shape " + cos.shape.to_string() + ", (B, S, R/2), does not fit x (..., H, S, D) of shape " +
           x.shape.to_string());
  } else if (positions != nullptr) {
    check_positions(*positions, geometry, x.shape, cos.shape[0]);
  } else if (cos.shape[0] < geometry.length) {
    fail("cos of shape " + cos.shape.to_string() + " has fewer rows than x of shape " + x.shape.to_string() +
         " has positions");
  }
}

void rotary_embedding(const TensorView& x, const TensorView& cos, const TensorView& sin,
                      const StridedView<const std::int64_t>* positions, bool interleaved, const TensorView& out) {
  check_rotary_embedding(x, cos, sin, positions);
  const Geometry geometry(x.shape);
  const std::int64_t planes = cos.shape.from_end(1);
  const bool picked = cos.rank() == 3;
  if (x.size() == 0) return;

  constexpr double nanoseconds_per_element = 0.15;
  const int threads = threads_for(nanoseconds_per_element * static_cast<double>(x.size()));
  const std::int64_t elements = elements_per_task(x.size(), threads);
  const std::int64_t block = std::clamp<std::int64_t>(elements / geometry.features, 1, geometry.length);
  const std::int64_t blocks = (geometry.length + block - 1) / block;
  const std::int64_t heads = geometry.batches * geometry.heads;
  const std::int64_t heads_per_task = std::clamp<std::int64_t>(elements / (block * geometry.features), 1, heads);
  const std::int64_t groups = (heads + heads_per_task - 1) / heads_per_task;
  const RotaryKernel kernel = kernels().rotary->rotary[static_cast<std::size_t>(x.dtype)];
  const int row_axis = x.rank() - 2;

  parallel_for(groups * blocks, threads, [&](std::int64_t task) {
    const std::int64_t first = task % blocks * block;
    const std::int64_t first_head = task / blocks * heads_per_task;
    for (std::int64_t head = first_head; head < std::min(first_head + heads_per_task, heads); ++head) {
      const std::int64_t batch = head / geometry.heads;
      const std::int64_t table_row = picked || positions == nullptr ? first : 0;  // in rows of the tables
      std::int64_t cos_offset = 0, sin_offset = 0;
      if (picked && cos.shape[0] != 1) {
        cos_offset = batch * cos.strides[0];
        sin_offset = batch * sin.strides[0];
      }
      const std::int64_t* picks = nullptr;
      if (positions != nullptr) {
        const bool per_batch = positions->rank() == 2 && positions->shape[0] != 1;
        picks = positions->data + (per_batch ? batch * geometry.length : 0) + first;
      }
      const std::int64_t cos_stride = cos.strides.from_end(2), sin_stride = sin.strides.from_end(2);
      kernel({.x = x.at(offset_of(head, x.shape, x.strides, geometry.leading) + first * x.strides[row_axis]),
              .cos = cos.at(cos_offset + table_row * cos_stride),
              .sin = sin.at(sin_offset + table_row * sin_stride),
              .out = out.at(offset_of(head, out.shape, out.strides, geometry.leading) + first * out.strides[row_axis]),
              .positions = picks,
              .x_stride = x.strides[row_axis],
              .cos_stride = cos_stride,
              .sin_stride = sin_stride,
              .out_stride = out.strides[row_axis],
              .rows = std::min(block, geometry.length - first),
              .planes = planes,
              .features = geometry.features,
              .interleaved = interleaved});
    }
  });
}

}  // namespace attnlib
