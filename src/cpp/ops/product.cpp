#include "ops/product.hpp"

#include <algorithm>
#include <optional>

#include "attnlib/tensor_view.hpp"
#include "isa/dispatch.hpp"
#include "ops/panels.hpp"
#include "ops/product_rows.hpp"
#include "runtime/dispatch_record.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

// Fewer rows than this and a row-major b is walked row by row.
constexpr std::int64_t rows_worth_tiles = 9;

// Fewer than this do not repay copying a row-major b into panels: tiles read its rows where they lie. Where a step of a
// panel is several cache lines they lose little by it, so that copying wants three blocks of rows; or two, if the rows
// of b lie whole pages apart, in few sets of the level-1 cache.
std::int64_t rows_worth_packing(std::int64_t step_bytes, std::int64_t stride_bytes) {
  if (step_bytes < 128) return 24;
  return (stride_bytes % 4096 == 0 ? 1 : 2) * largest_block_rows + 1;
}
// However many there are, a b that is read as it is from near caches is not copied either.
constexpr std::int64_t most_bytes_in_place = std::int64_t{64} << 10;

// Where the kernels find b: panels, in units of `kind`.
struct Panels {
  const std::byte* data;
  ProductKind kind;
  std::int64_t panel_stride, depth_stride;  // in units
  std::int64_t one_panel;                   // in bytes
};

void run_blocks(const Product& p, const ProductRows& left, const Panels& panels, int threads) {
  auto [multiply, tile, most_rows] = multiplication(p.dtype, panels.kind, p.depth);
  const std::int64_t width = panel_width_of(panels.kind);
  // Many threads want many blocks.
  if (p.batch * ceil_div(p.rows, most_rows) * ceil_div(p.columns, width) < 4 * static_cast<std::int64_t>(threads))
    most_rows = std::min(most_rows, largest_block_rows);
  const std::int64_t row_blocks = std::max<std::int64_t>(ceil_div(p.rows, most_rows), 1);
  const std::int64_t block_rows = ceil_div(ceil_div(p.rows, row_blocks), tile) * tile;
  const std::int64_t panel_count = ceil_div(p.columns, width);
  // Enough tasks to even out the threads' ends, not so many that a block of a is fetched for little: a task of few rows
  // is short, and soon most of it would be beginning and ending. One thread's order is the same in one task, whose
  // columns are dealt out evenly.
  const std::int64_t tasks_wanted = (p.rows > 128 ? 8 : 4) * static_cast<std::int64_t>(threads);
  const std::int64_t groups_wanted = threads == 1 ? 1 : ceil_div(tasks_wanted, p.batch * row_blocks);
  const std::int64_t group = std::clamp<std::int64_t>(panel_count / std::max<std::int64_t>(groups_wanted, 1), 1, 16);
  const std::int64_t groups = ceil_div(panel_count, group);
  const std::int64_t compute_size = dtype_size(compute_dtype(p.dtype));
  const std::int64_t group_size = p.packed == nullptr ? 1 : p.packed->group_size();
  const std::int64_t size = dtype_size(p.dtype), tasks_of_one = row_blocks * groups;
  const bool a_follows = p.fetches_next && p.a_batch_stride == p.rows * p.depth;
  const bool b_follows = p.fetches_next && p.b_batch_stride == p.depth * p.columns && groups == 1;
  parallel_for(p.batch * tasks_of_one, threads, [&, multiply = multiply](std::int64_t task) {
    const std::int64_t item = task / tasks_of_one, of_item = task % tasks_of_one;
    const std::int64_t row = of_item / groups * block_rows;
    const std::int64_t panel = of_item % groups * group;
    const std::int64_t column = panel * width;
    if (row >= p.rows) return;
    MatmulBlock block{};
    block.rows = std::min(block_rows, p.rows - row);
    block.columns = std::min(group * width, p.columns - column);
    block.depth = ceil_div(p.depth, unit_depth(panels.kind, group_size));
    left.give(block, row);
    block.left = static_cast<const std::byte*>(block.left) + item * p.a_batch_stride * size;
    // Rows that follow in memory, if they lie end to end, lest what is between them be fetched too.
    const std::int64_t rows_after = std::min(block_rows, p.rows - row - block.rows);
    const bool is_last = item + 1 == p.batch;
    block.left_bytes_after = rows_after > 0          ? left.bytes_end_to_end(rows_after)
                             : a_follows && !is_last ? p.rows * p.depth * size
                                                     : 0;
    block.panel_bytes_after = b_follows && !is_last ? p.depth * p.columns * size : 0;
    block.panels = panels.data + item * p.b_batch_stride * size + panel * panels.one_panel;
    block.panel_stride = panels.panel_stride;
    block.depth_stride = panels.depth_stride;
    block.out = p.out + (item * p.out_batch_stride + row * p.out_stride + column) * size;
    block.out_stride = p.out_stride;
    block.bias = p.bias == nullptr ? nullptr : p.bias + column * compute_size;
    block.residual = p.residual == nullptr ? nullptr : p.residual + (row * p.residual_stride + column) * size;
    block.residual_stride = p.residual_stride;
    block.activation = p.activation;
    block.single_tile_fetches = kernels().matrix_unit != nullptr;
    block.group_size = group_size;
    if (panels.kind == ProductKind::int8) {
      block.column_scales = p.packed->column_scales() + p.first_column + column;
      block.column_sums = p.packed->column_sums() + p.first_column + column;
    }
    multiply(&block);
  });
}

// Some rows of a product.
Product rows_of(const Product& p, std::int64_t first, std::int64_t count) {
  Product part = p;
  part.rows = count;
  part.a += first * p.a_stride * dtype_size(p.dtype);
  part.out += first * p.out_stride * dtype_size(p.dtype);
  if (p.residual != nullptr) part.residual += first * p.residual_stride * dtype_size(p.dtype);
  return part;
}

Panels packed_panels(const std::byte* data, ProductKind kind, std::int64_t depth, std::int64_t group_size = 1) {
  const std::int64_t width = panel_width_of(kind);
  return {data, kind, ceil_div(depth, unit_depth(kind, group_size)) * width, width,
          panel_bytes(depth, width, kind, group_size)};
}

// As many rows at a time as a matrix unit's blocks are: arranged, they wait in the threads' level-2 caches.
void run_rows(const Product& p, ProductKind kind, const Panels& panels, int threads) {
  const Multiplication how = multiplication(p.dtype, kind, p.depth);
  const std::int64_t parts = matrix_unit_for(kind) == nullptr ? 1 : ceil_div(p.rows, how.block_rows * threads);
  const std::int64_t rows = ceil_div(ceil_div(p.rows, parts), how.tile_rows) * how.tile_rows;
  for (std::int64_t row = 0; row < p.rows; row += rows) {
    const Product part = rows_of(p, row, std::min(rows, p.rows - row));
    run_blocks(part, ProductRows(part, kind, p.packed->group_size(), threads), panels, threads);
  }
}

// How the rows of a product may be dealt out to threads.
struct RowGroups {
  std::int64_t rows;          // of a group, that are multiplied together
  std::int64_t of_a_thread;   // so many at least, lest it read a panel for few rows
  std::int64_t weight_bytes;  // what the level-2 cache holds beside a block of rows; without a unit, 1 MB of it
};

std::optional<RowGroups> row_groups(const Product& p, ProductKind kind) {
  constexpr std::int64_t unit_level2_bytes = 2 << 20;  // no CPU with a matrix unit has less
  if (const MatrixUnitKernels* const unit = matrix_unit_for(kind); unit != nullptr)
    return RowGroups{unit->group_rows, 2, unit_level2_bytes - unit->block_bytes};
  if (kind != ProductKind::int8) return std::nullopt;  // rows are read where they lie
  return RowGroups{multiplication(p.dtype, kind, p.depth).tile_rows, 8, 700 << 10};
}

// Into how many parts the rows of a product are dealt out to the threads; 1: columns are, instead. Rows that one thread
// arranges, or makes codes of, and another reads would go from cache to cache, and nobody could begin before all are
// ready; but only where the level-2 cache holds all of the weight beside a block of rows can each thread walk through
// all of it. None shall have a tenth more of them than the mean.
std::int64_t parts_of_rows(const Product& p, ProductKind kind, const Panels& panels, int threads) {
  const std::optional<RowGroups> group = row_groups(p, kind);
  if (!group || threads == 1) return 1;
  const std::int64_t groups = ceil_div(p.rows, group->rows);
  const std::int64_t panel_count = ceil_div(p.columns, panel_width_of(kind));
  if (groups < group->of_a_thread * threads || panel_count * panels.one_panel > group->weight_bytes) return 1;
  // Parts of about a block at most: between them a slow thread is helped, and interruptions are looked for.
  const std::int64_t blocks = ceil_div(p.rows, multiplication(p.dtype, kind, p.depth).block_rows);
  const std::int64_t least = ceil_div(blocks, threads), most = std::max<std::int64_t>(least, 2);
  const std::int64_t rounds = std::clamp<std::int64_t>(groups / (group->of_a_thread * threads), least, most);
  const std::int64_t parts = std::min(rounds, groups / threads) * threads;
  const bool uneven = 10 * threads * ceil_div(groups, threads) > 11 * groups;
  return uneven ? 1 : parts;
}

void run_packed(const Product& p, ProductKind kind, const Panels& panels, int threads) {
  const std::int64_t parts = parts_of_rows(p, kind, panels, threads);
  if (parts == 1) return run_rows(p, kind, panels, threads);
  const std::int64_t group_rows = row_groups(p, kind)->rows, groups = ceil_div(p.rows, group_rows);
  parallel_for(parts, threads, [&](std::int64_t part) {
    const std::int64_t first = share_begin(groups, part, parts) * group_rows;
    const std::int64_t end = std::min(share_begin(groups, part + 1, parts) * group_rows, p.rows);
    run_rows(rows_of(p, first, end - first), kind, panels, 1);
  });
}

// Packs some columns of b into scratch memory that is kept from call to call, multiplies, goes on with the next ones:
// a buffer for all of b would be fresh pages on every call, which cost more than the copying.
void run_packing(const Product& p, ProductKind kind, int threads) {
  constexpr std::int64_t packed_bytes = std::int64_t{2} << 20;
  const ProductRows left(p, kind, 1, threads);
  const std::int64_t width = panel_width_of(kind);
  const std::int64_t bytes_per_panel = std::max<std::int64_t>(panel_bytes(p.depth, width, kind), 1);
  const std::int64_t columns = width * std::max<std::int64_t>(packed_bytes / bytes_per_panel, threads);
  const Scratch packed(panel_bytes(p.depth, std::min(columns, p.columns), kind));
  const std::int64_t size = dtype_size(p.dtype);
  for (std::int64_t column = 0; column < p.columns; column += columns) {
    Product part = p;
    part.columns = std::min(columns, p.columns - column);
    part.b += column * p.b_column_stride * size;
    part.out += column * size;
    if (p.bias != nullptr) part.bias += column * dtype_size(compute_dtype(p.dtype));
    if (p.residual != nullptr) part.residual += column * size;
    pack_panels(part.b, p.dtype, p.depth, part.columns, p.b_depth_stride, p.b_column_stride, packed.as<std::byte>(),
                kind, threads);
    run_blocks(part, left, packed_panels(packed.as<std::byte>(), kind, p.depth), threads);
  }
}

const char* name_of(ProductKind kind) {
  if (matrix_unit_for(kind) != nullptr) return kind == ProductKind::int8 ? "int8 matrix unit" : "bfloat16 matrix unit";
  constexpr const char* names[] = {
      "float32",          "float64",         "float16 widened", "bfloat16 widened", "bfloat16 dot product",
      "int8 dot product", "int4 dot product"};
  return names[index_of(kind)];
}

bool is_row_major(const Product& p) {
  return p.packed == nullptr && p.b_column_stride == 1 && p.dtype == compute_dtype(p.dtype) && p.depth > 0;
}

// Few rows and a row-major b of the compute type: nothing is packed.
bool is_walked_by_rows(const Product& p) { return is_row_major(p) && p.rows < rows_worth_tiles && !p.has_epilogue(); }

ProductKind kind_of_unpacked(const Product& p) {
  if (p.dtype == DType::float64) return ProductKind::float64;
  return p.dtype == DType::bfloat16 && kernels().matmul->has_bfloat16_dot ? ProductKind::bfloat16_dot
                                                                          : ProductKind::float32;
}

// A row-major b serves as its own panels if no tile would read past the end of a row: 16 columns are whole registers on
// every rung.
bool has_own_panels(const Product& p) {
  const std::int64_t size = dtype_size(p.dtype), step_bytes = panel_width_of(kind_of_unpacked(p)) * size;
  const std::int64_t stride_bytes = p.b_depth_stride * size;
  const bool small = p.depth * stride_bytes <= most_bytes_in_place && p.b_depth_stride == p.columns;
  return is_row_major(p) && (p.rows < rows_worth_packing(step_bytes, stride_bytes) || small) && p.columns % 16 == 0;
}

void run_row_major(const Product& p, int threads) {
  const auto multiply = kernels().matmul->multiply_row_major[p.dtype == DType::float64 ? 1 : 0];
  const std::int64_t size = dtype_size(p.dtype);
  // Whole cache lines for each thread; as many columns as keep the sums in the level-1 cache.
  // A batch is enough tasks by itself.
  const std::int64_t pieces = std::clamp<std::int64_t>(ceil_div(4 * std::int64_t{threads}, p.batch), 1, threads);
  const std::int64_t columns = std::clamp<std::int64_t>(ceil_div(ceil_div(p.columns, pieces), 64) * 64, 64, 2048);
  const std::int64_t tasks_of_one = ceil_div(p.columns, columns);
  parallel_for(p.batch * tasks_of_one, threads, [&](std::int64_t task) {
    const std::int64_t item = task / tasks_of_one, column = task % tasks_of_one * columns;
    MatmulRowMajor part{};
    part.rows = p.rows;
    part.columns = std::min(columns, p.columns - column);
    part.depth = p.depth;
    part.a = p.a + item * p.a_batch_stride * size;
    part.a_stride = p.a_stride;
    part.b = p.b + (item * p.b_batch_stride + column) * size;
    part.b_stride = p.b_depth_stride;
    part.out = p.out + (item * p.out_batch_stride + column) * size;
    part.out_stride = p.out_stride;
    multiply(&part);
  });
}

}  // namespace

double product_nanoseconds(std::int64_t rows, std::int64_t columns, std::int64_t depth, double element_size) {
  const double bytes = static_cast<double>(columns) * static_cast<double>(depth) * element_size;
  // float32 is multiplied at 100 GFLOP/s, and what is half as large twice as fast. Weights come in at 20 GB/s, of which
  // more threads make little more: what only reads them is worth a thread when it takes three times as long as others.
  return bytes * (static_cast<double>(rows) * 0.005 + 0.05 / 3);
}

double product_nanoseconds(std::int64_t rows, const PackedWeight& weight) {
  const std::int64_t columns = weight.out_features(), depth = weight.in_features();
  const double elements = static_cast<double>(columns) * static_cast<double>(depth);
  // What an element takes includes the scales of quantised weights.
  return elements == 0.0 ? 0.0
                         : product_nanoseconds(rows, columns, depth, static_cast<double>(weight.nbytes()) / elements);
}

Product share_of(const Product& product, std::int64_t member, std::int64_t members) {
  const std::int64_t width = product.packed->panel_width(), panels = ceil_div(product.columns, width);
  const std::int64_t first = share_begin(panels, member, members) * width;
  const std::int64_t size = dtype_size(product.dtype);
  Product share = product;
  share.columns =
      std::max<std::int64_t>(std::min(share_begin(panels, member + 1, members) * width, product.columns) - first, 0);
  share.first_column += first;
  share.out += first * size;
  if (product.residual != nullptr) share.residual += first * size;
  if (product.bias != nullptr) share.bias += first * dtype_size(compute_dtype(product.dtype));
  return share;
}

bool takes_batch(const Product& p) { return p.residual == nullptr && (is_walked_by_rows(p) || has_own_panels(p)); }

void run_product(const Product& p, int threads) {
  if (p.rows == 0 || p.columns == 0) return;
  if (threads == 0)
    threads = threads_for(p.packed == nullptr ? static_cast<double>(p.batch) *
                                                    product_nanoseconds(p.rows, p.columns, p.depth,
                                                                        static_cast<double>(dtype_size(p.dtype)))
                                              : product_nanoseconds(p.rows, *p.packed));
  DispatchRecord& record = dispatch_record();
  if (p.packed != nullptr) {
    ProductKind kind = kind_of(p.packed->format());
    if (kind == ProductKind::bfloat16 && p.dtype == DType::bfloat16 && kernels().matmul->has_bfloat16_dot)
      kind = ProductKind::bfloat16_dot;
    record.kernel = name_of(kind);
    record.plan = "packed weight";
    Panels panels = packed_panels(p.packed->panels(), kind, p.depth, p.packed->group_size());
    panels.data += p.first_column / panel_width_of(kind) * panels.one_panel;
    run_packed(p, kind, panels, threads);
    return;
  }
  const ProductKind kind = kind_of_unpacked(p);
  record.kernel = name_of(kind);
  if (is_walked_by_rows(p)) {
    record.plan = "few rows, the matrix read row by row";
    run_row_major(p, threads);
    return;
  }
  if (p.dtype == DType::bfloat16 && kind == ProductKind::float32)
    record.add_note(nullptr, "widened to float32: no dot product of bfloat16 on this instruction set");
  if (has_own_panels(p)) {
    record.plan = "the matrix read in place";
    const std::int64_t width = panel_width_of(kind);
    const ProductRows left(p, kind, 1, threads);
    run_blocks(p, left, {p.b, kind, width, p.b_depth_stride, width * dtype_size(p.dtype)}, threads);
    return;
  }
  record.plan = "the matrix packed on the way (a PackedWeight saves that)";
  run_packing(p, kind, threads);
}

}  // namespace attnlib
