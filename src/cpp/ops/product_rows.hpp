// The rows of a product as the kernels read them: where they lie, or staged in scratch memory, widened, quantised, or
// arranged for a matrix unit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/matrix_unit.hpp"
#include "ops/product.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
inline int index_of(DType dtype) { return static_cast<int>(dtype); }
inline int index_of(ProductKind kind) { return static_cast<int>(kind); }

// The rung's matrix unit, if it has one for the kind.
const MatrixUnitKernels* matrix_unit_for(ProductKind kind);

// How a product is multiplied: by the rung's matrix unit where it has one for the kind, else by its vectors.
struct Multiplication {
  MultiplyFunction multiply;
  std::int64_t tile_rows;   // what a block's rows are a multiple of
  std::int64_t block_rows;  // at most
};
Multiplication multiplication(DType dtype, ProductKind kind, std::int64_t depth);

class ProductRows {
 public:
  ProductRows(const Product& product, ProductKind kind, std::int64_t group_size, int threads);

  // What some rows take in memory; 0 if there is something between them.
  std::int64_t bytes_end_to_end(std::int64_t rows) const { return end_to_end_ ? rows * row_bytes_ : 0; }
  // The rows from `row` on, the first of a tile.
  void give(MatmulBlock& block, std::int64_t row) const;

 private:
  void stage(const Product& product, ProductKind kind, std::int64_t group_size, int threads);

  const std::byte* data_ = nullptr;
  std::int64_t stride_ = 0;     // between rows, in units
  std::int64_t row_bytes_ = 0;  // from one row to the next; for a matrix unit, of a row's share of its group
  std::int64_t groups_ = 1;     // int4: of a row
  bool end_to_end_ = false;     // one row follows the other
  std::optional<Scratch> staged_, scales_, offsets_, outliers_;
};

}  // namespace attnlib
