#include "ops/product_rows.hpp"

#include <algorithm>

#include "attnlib/tensor_view.hpp"
#include "isa/dispatch.hpp"
#include "ops/panels.hpp"
#include "runtime/dispatch_record.hpp"
#include "runtime/parallel.hpp"

namespace attnlib {
namespace {

constexpr std::int64_t staged_together = 32;  // rows of a task

bool is_quantised(ProductKind kind) { return kind == ProductKind::int8 || kind == ProductKind::int4; }

// Of what rows consist when they are staged.
std::int64_t staged_element_size(const Product& product, ProductKind kind) {
  return is_quantised(kind) ? 1 : kind == ProductKind::bfloat16_dot ? 2 : dtype_size(compute_dtype(product.dtype));
}

// What a row takes, arranged for the unit.
std::int64_t arranged_row_bytes(const MatrixUnitKernels& unit, ProductKind kind, std::int64_t depth) {
  const std::int64_t bytes = kind == ProductKind::int8 ? depth : 2 * depth;
  return std::max<std::int64_t>(ceil_div(bytes, unit.step_bytes), 1) * unit.step_bytes;
}

// How many of them stay in the level-2 cache while all panels pass by. A few, rather than more that do not: 256 rows of
// 14,336 bfloat16 take 1.16 times as long in blocks of 128.
std::int64_t rows_of_a_block(const MatrixUnitKernels& unit, std::int64_t row_bytes) {
  return std::clamp(unit.block_bytes / row_bytes / unit.group_rows * unit.group_rows, unit.group_rows, unit.block_rows);
}

}  // namespace

const MatrixUnitKernels* matrix_unit_for(ProductKind kind) {
  return kind == ProductKind::bfloat16_dot || kind == ProductKind::int8 ? kernels().matrix_unit : nullptr;
}

Multiplication multiplication(DType dtype, ProductKind kind, std::int64_t depth) {
  if (const MatrixUnitKernels* unit = matrix_unit_for(kind); unit != nullptr)
    return {kind == ProductKind::int8 ? unit->multiply_int8[index_of(dtype)] : unit->multiply_bfloat16,
            unit->group_rows, rows_of_a_block(*unit, arranged_row_bytes(*unit, kind, depth))};
  const MatmulKernels& table = *kernels().matmul;
  return {table.multiply[index_of(dtype)][index_of(kind)], table.tile_rows[kind == ProductKind::float64 ? 1 : 0],
          largest_block_rows};
}

ProductRows::ProductRows(const Product& product, ProductKind kind, std::int64_t group_size, int threads) {
  const std::int64_t unit = unit_depth(kind, group_size);
  const bool as_they_are =
      kind == ProductKind::bfloat16_dot || (!is_quantised(kind) && product.dtype == compute_dtype(product.dtype));
  if (as_they_are && matrix_unit_for(kind) == nullptr) {
    // In place if every row begins, and ends, with a whole unit.
    if (product.depth % unit == 0 && (product.a_stride % unit == 0 || product.rows == 1)) {
      data_ = product.a;
      stride_ = product.a_stride / unit;
      row_bytes_ = product.a_stride * dtype_size(product.dtype);
      end_to_end_ = product.a_stride == product.depth;
      return;
    }
    dispatch_record().add_note(nullptr, "rows copied: their length or distance is odd, and this kernel takes pairs");
  }
  stage(product, kind, group_size, threads);
}

void ProductRows::stage(const Product& product, ProductKind kind, std::int64_t group_size, int threads) {
  const MatrixUnitKernels* const matrix_unit = matrix_unit_for(kind);
  const std::int64_t unit = unit_depth(kind, group_size), size = dtype_size(product.dtype);
  const std::int64_t padded = ceil_div(product.depth, unit) * unit;
  const std::int64_t staged_bytes = padded * staged_element_size(product, kind);  // of a row
  const std::int64_t together = matrix_unit == nullptr ? staged_together : matrix_unit->group_rows;
  stride_ = kind == ProductKind::int4 ? padded : padded / unit;
  row_bytes_ = matrix_unit == nullptr ? staged_bytes : arranged_row_bytes(*matrix_unit, kind, product.depth);
  end_to_end_ = matrix_unit == nullptr;
  groups_ = kind == ProductKind::int4 ? padded / group_size : 1;
  // A group of rows that are arranged is as large however few they are.
  const std::int64_t rows_taken = matrix_unit == nullptr ? product.rows : ceil_div(product.rows, together) * together;
  staged_.emplace(bytes_for({rows_taken, row_bytes_}));
  data_ = staged_->as<std::byte>();
  if (is_quantised(kind)) {
    scales_.emplace(bytes_for({product.rows, groups_, sizeof(float)}));
    offsets_.emplace(bytes_for({product.rows, groups_, sizeof(std::int32_t)}));
  }
  if (kind == ProductKind::int8) outliers_.emplace(bytes_for({product.rows, sizeof(RowOutliers)}));
  const auto stage_rows = kernels().matmul->stage[index_of(product.dtype)][index_of(kind)];
  parallel_for(ceil_div(product.rows, together), threads, [&](std::int64_t task) {
    const std::int64_t row = task * together;
    std::byte* const target = staged_->as<std::byte>() + row * row_bytes_;
    MatmulRows rows{};
    rows.rows = std::min(together, product.rows - row);
    rows.depth = product.depth;
    rows.source = product.a + row * product.a_stride * size;
    rows.source_stride = product.a_stride;
    rows.target = target;
    rows.target_stride = padded;
    rows.group_size = group_size;
    if (is_quantised(kind)) {
      rows.scales = scales_->as<float>() + row * groups_;
      rows.offsets = offsets_->as<std::int32_t>() + row * groups_;
    }
    std::optional<Scratch> row_values;
    if (kind == ProductKind::int8) {
      rows.outliers = outliers_->as<RowOutliers>() + row;
      rows.balance = product.packed->balance();
      row_values.emplace(ceil_div(product.depth, staged_values) * staged_values * std::int64_t{sizeof(float)});
      rows.row_values = row_values->as<float>();
    }
    if (matrix_unit == nullptr) {
      stage_rows(&rows);
      return;
    }
    MatrixUnitRows arranged{rows.rows, product.depth * size, rows.source, product.a_stride * size, target};
    std::optional<Scratch> codes;
    if (is_quantised(kind)) {
      codes.emplace(rows.rows * staged_bytes);
      rows.target = codes->as<std::byte>();
      stage_rows(&rows);
      arranged = {rows.rows, staged_bytes, rows.target, staged_bytes, target};
    }
    matrix_unit->arrange_rows(&arranged);
  });
}

void ProductRows::give(MatmulBlock& block, std::int64_t row) const {
  block.left = data_ + row * row_bytes_;
  block.left_stride = stride_;
  block.row_scales = scales_ ? scales_->as<const float>() + row * groups_ : nullptr;
  block.row_offsets = offsets_ ? offsets_->as<const std::int32_t>() + row * groups_ : nullptr;
  block.row_outliers = outliers_ ? outliers_->as<const RowOutliers>() + row : nullptr;
}

}  // namespace attnlib
