#include "ops/panels.hpp"

#include <algorithm>

#include "attnlib/tensor_view.hpp"
#include "isa/dispatch.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

std::int64_t unit_bytes(ProductKind kind) {
  switch (kind) {
    case ProductKind::float64:
      return 8;
    case ProductKind::float16:
      return 2;
    default:
      return 4;
  }
}

}  // namespace

ProductKind kind_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::int8:
      return ProductKind::int8;
    case WeightFormat::int4:
      return ProductKind::int4;
    default:
      return static_cast<ProductKind>(format);
  }
}

std::int64_t unit_depth(ProductKind kind, std::int64_t group_size) {
  switch (kind) {
    case ProductKind::bfloat16:
    case ProductKind::bfloat16_dot:
      return 2;
    case ProductKind::int8:
      return 4;
    case ProductKind::int4:
      return group_size;
    default:
      return 1;
  }
}

std::int64_t panel_width_of(ProductKind kind) {
  return kernels().matmul->panel_width[kind == ProductKind::float64 ? 1 : 0];
}

std::int64_t panel_bytes(std::int64_t depth, std::int64_t columns, ProductKind kind, std::int64_t group_size) {
  return panel_bytes(depth, columns, kind, group_size, panel_width_of(kind));
}

std::int64_t panel_bytes(std::int64_t depth, std::int64_t columns, ProductKind kind, std::int64_t group_size,
                         std::int64_t width) {
  const std::int64_t unit = unit_depth(kind, group_size);
  // A group of int4: half a byte each, and two numbers of two bytes.
  const std::int64_t bytes = kind == ProductKind::int4 ? group_size / 2 + 4 : unit_bytes(kind);
  return (columns + width - 1) / width * width * ((depth + unit - 1) / unit) * bytes;
}

void pack_panels(const std::byte* source, DType source_dtype, std::int64_t depth, std::int64_t columns,
                 std::int64_t depth_stride, std::int64_t column_stride, std::byte* panels, ProductKind kind,
                 int threads) {
  if (depth == 0) return;  // panels of no bytes, however many
  const std::int64_t width = panel_width_of(kind);
  const std::int64_t size = dtype_size(source_dtype);
  const std::int64_t one_panel = panel_bytes(depth, width, kind);
  const auto pack = kernels().matmul->pack[static_cast<int>(source_dtype)][static_cast<int>(kind)];
  parallel_for((columns + width - 1) / width, threads, [&](std::int64_t panel) {
    const std::int64_t first = panel * width;
    MatmulPack task;
    task.depth = depth;
    task.columns = std::min(width, columns - first);
    task.source = source + first * column_stride * size;
    task.depth_stride = depth_stride;
    task.column_stride = column_stride;
    task.panels = panels + panel * one_panel;
    if (column_stride == 1 || depth_stride == 1) {
      pack(&task);
      return;
    }
    // Neither axis is contiguous: gather the panel's columns first.
    Scratch gathered(width * depth * size);
    auto* target = gathered.as<std::byte>();
    const auto* from = static_cast<const std::byte*>(task.source);
    for (std::int64_t n = 0; n < task.columns; ++n)
      for (std::int64_t k = 0; k < depth; ++k)
        std::copy_n(from + (k * depth_stride + n * column_stride) * size, size, target + (n * depth + k) * size);
    task.source = target;
    task.depth_stride = 1;
    task.column_stride = depth;
    pack(&task);
  });
}

}  // namespace attnlib
