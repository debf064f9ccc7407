// Laying matrices out in the panels of the kernels in use.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attnlib/dtype.hpp"
#include "attnlib/matmul.hpp"
#include "kernels/matmul.hpp"

namespace attnlib {

// What the kernels call the format of a packed weight.
ProductKind kind_of(WeightFormat format);

// Elements of the depth in a unit (kernels/matmul.hpp); of int4 it is the group.
std::int64_t unit_depth(ProductKind kind, std::int64_t group_size = 1);

std::int64_t panel_width_of(ProductKind kind);

// Bytes that a matrix takes in panels: in those of the kernels in use, or in panels of `width` columns.
std::int64_t panel_bytes(std::int64_t depth, std::int64_t columns, ProductKind kind, std::int64_t group_size = 1);
std::int64_t panel_bytes(std::int64_t depth, std::int64_t columns, ProductKind kind, std::int64_t group_size,
                         std::int64_t width);

// Packs b(k, n) = source[k * depth_stride + n * column_stride] into panels of a float kind, panels in parallel (threads
// 0: all). A source with neither stride 1 is gathered first.
void pack_panels(const std::byte* source, DType source_dtype, std::int64_t depth, std::int64_t columns,
                 std::int64_t depth_stride, std::int64_t column_stride, std::byte* panels, ProductKind kind,
                 int threads);

}  // namespace attnlib
