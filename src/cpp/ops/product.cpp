#include "ops/product.hpp"

#include <algorithm>
#include <optional>

#include "attnlib/tensor_view.hpp"
#include "isa/dispatch.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

// Rows of a that stay in the level-2 cache while panels pass by (with 768 of depth: 288 KB of float32).
constexpr std::int64_t row_block = 96;
// Fewer rows than this do not repay copying b into panels: its rows are read where they lie.
constexpr std::int64_t rows_worth_packing = 24;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
int index_of(DType dtype) { return static_cast<int>(dtype); }
int compute_index(DType dtype) { return dtype == DType::float64 ? 1 : 0; }

// Where the kernels find the panels of b.
struct Panels {
  const std::byte* data;
  DType dtype;
  std::int64_t panel_stride, depth_stride;
};

// A row-major b serves as its own panels if no tile would read past the end of a row: 16 columns are whole registers
// on every rung.
bool readable_in_place(const Product& p) {
  return p.b_column_stride == 1 && p.b_dtype == compute_dtype(p.dtype) && p.rows < rows_worth_packing &&
         p.columns % 16 == 0;
}

void run_blocks(const Product& p, const std::byte* a, std::int64_t a_stride, const Panels& panels, int threads) {
  const MatmulKernels& table = *kernels().matmul;
  const int compute = compute_index(p.dtype);
  const std::int64_t width = table.panel_width[compute];
  const std::int64_t tile = table.tile_rows[compute];
  const std::int64_t row_blocks = std::max<std::int64_t>(ceil_div(p.rows, row_block), 1);
  const std::int64_t block_rows = ceil_div(ceil_div(p.rows, row_blocks), tile) * tile;
  const std::int64_t panel_count = ceil_div(p.columns, width);
  // Enough tasks to even out the threads' ends, not so many that a block of a is fetched for little.
  const std::int64_t groups_wanted = ceil_div(8 * static_cast<std::int64_t>(threads), row_blocks);
  const std::int64_t group = std::clamp<std::int64_t>(panel_count / std::max<std::int64_t>(groups_wanted, 1), 1, 16);
  const std::int64_t groups = ceil_div(panel_count, group);
  const std::int64_t compute_size = dtype_size(compute_dtype(p.dtype));
  const auto multiply = table.multiply[index_of(p.dtype)][index_of(panels.dtype)];
  parallel_for(row_blocks * groups, threads, [&](std::int64_t task) {
    const std::int64_t row = task / groups * block_rows;
    const std::int64_t panel = task % groups * group;
    const std::int64_t column = panel * width;
    if (row >= p.rows) return;
    MatmulBlock block;
    block.rows = std::min(block_rows, p.rows - row);
    block.columns = std::min(group * width, p.columns - column);
    block.depth = p.depth;
    block.a = a + row * a_stride * compute_size;
    block.a_stride = a_stride;
    block.panels = panels.data + panel * panels.panel_stride * dtype_size(panels.dtype);
    block.panel_stride = panels.panel_stride;
    block.depth_stride = panels.depth_stride;
    block.out = p.out + (row * p.out_stride + column) * dtype_size(p.dtype);
    block.out_stride = p.out_stride;
    block.bias = p.bias == nullptr ? nullptr : p.bias + column * compute_size;
    block.residual =
        p.residual == nullptr ? nullptr : p.residual + (row * p.residual_stride + column) * dtype_size(p.dtype);
    block.residual_stride = p.residual_stride;
    block.activation = p.activation;
    multiply(&block);
  });
}

// Packs some columns of b into scratch memory that is kept from call to call, multiplies, goes on with the next ones:
// a buffer for all of b would be fresh pages on every call, which cost more than the copying.
void run_packing(const Product& p, const std::byte* a, std::int64_t a_stride, int threads) {
  constexpr std::int64_t packed_bytes = std::int64_t{2} << 20;
  const DType compute = compute_dtype(p.dtype);
  const std::int64_t width = panel_width_of(compute);
  const std::int64_t bytes_per_panel = std::max<std::int64_t>(panel_bytes(p.depth, width, compute), 1);
  const std::int64_t columns = width * std::max<std::int64_t>(packed_bytes / bytes_per_panel, threads);
  const Scratch packed(panel_bytes(p.depth, std::min(columns, p.columns), compute));
  for (std::int64_t column = 0; column < p.columns; column += columns) {
    Product part = p;
    part.columns = std::min(columns, p.columns - column);
    part.b += column * p.b_column_stride * dtype_size(p.b_dtype);
    part.out += column * dtype_size(p.dtype);
    if (p.bias != nullptr) part.bias += column * dtype_size(compute);
    if (p.residual != nullptr) part.residual += column * dtype_size(p.dtype);
    pack_panels(part.b, p.b_dtype, p.depth, part.columns, p.b_depth_stride, p.b_column_stride, packed.as<std::byte>(),
                compute, threads);
    run_blocks(part, a, a_stride, {packed.as<std::byte>(), compute, width * p.depth, width}, threads);
  }
}

}  // namespace

double product_nanoseconds(std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  const double work = static_cast<double>(columns) * static_cast<double>(depth);
  return work * (static_cast<double>(rows) * 0.02 + 0.2);  // 100 GFLOP/s, and 20 GB/s of weights
}

std::int64_t panel_width_of(DType dtype) { return kernels().matmul->panel_width[compute_index(dtype)]; }

std::int64_t panel_bytes(std::int64_t depth, std::int64_t columns, DType panel_dtype) {
  const std::int64_t width = panel_width_of(panel_dtype);
  return ceil_div(columns, width) * width * depth * dtype_size(panel_dtype);
}

void widen_row(const std::byte* source, DType dtype, std::int64_t count, float* target) {
  kernels().matmul->widen[index_of(dtype)](source, count, target);
}

void pack_panels(const std::byte* source, DType source_dtype, std::int64_t depth, std::int64_t columns,
                 std::int64_t depth_stride, std::int64_t column_stride, std::byte* panels, DType panel_dtype,
                 int threads) {
  const std::int64_t width = panel_width_of(panel_dtype);
  const std::int64_t size = dtype_size(source_dtype);
  const auto pack = kernels().matmul->pack[index_of(source_dtype)][index_of(panel_dtype)];
  parallel_for(ceil_div(columns, width), threads, [&](std::int64_t panel) {
    const std::int64_t first = panel * width;
    MatmulPack task;
    task.depth = depth;
    task.columns = std::min(width, columns - first);
    task.source = source + first * column_stride * size;
    task.depth_stride = depth_stride;
    task.column_stride = column_stride;
    task.panels = panels + first * depth * dtype_size(panel_dtype);
    if (column_stride == 1 || depth_stride == 1 || depth == 0) {
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

void run_product(const Product& p, int threads) {
  if (p.rows == 0 || p.columns == 0) return;
  if (threads == 0) threads = threads_for(product_nanoseconds(p.rows, p.columns, p.depth));
  const DType compute = compute_dtype(p.dtype);

  // Rows of a two-byte type are widened once; the panels are read many times, a only in passing.
  const std::byte* a = p.a;
  std::int64_t a_stride = p.a_stride;
  std::optional<Scratch> widened;
  if (p.dtype != compute) {
    widened.emplace(p.rows * p.depth * dtype_size(compute));
    auto* target = widened->as<float>();
    const std::int64_t chunk = 64;
    parallel_for(ceil_div(p.rows, chunk), threads, [&](std::int64_t task) {
      for (std::int64_t row = task * chunk; row < std::min(p.rows, (task + 1) * chunk); ++row)
        widen_row(p.a + row * p.a_stride * dtype_size(p.dtype), p.dtype, p.depth, target + row * p.depth);
    });
    a = widened->as<std::byte>();
    a_stride = p.depth;
  }

  if (p.b_panel_width > 0) {
    run_blocks(p, a, a_stride, {p.b, p.b_dtype, p.b_panel_width * p.depth, p.b_panel_width}, threads);
  } else if (readable_in_place(p)) {
    run_blocks(p, a, a_stride, {p.b, p.b_dtype, panel_width_of(p.b_dtype), p.b_depth_stride}, threads);
  } else {
    run_packing(p, a, a_stride, threads);
  }
}

}  // namespace attnlib
