// The element-wise part of a step of an LSTM (Hochreiter and Schmidhuber, 1997; F. Gers et al., 2000):
//
//   a = gates + projected, in four blocks of H columns: i, f, g, o
//   cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)
//   out  = sigmoid(o) * tanh(cell)
//
// gates and projected are (B, 4 H), cell and out (B, H); all rows are contiguous. It is a kernel of its own
// because a step of a small batch is short: as nine passes of separate operations it took 19 microseconds for 8 x 512
// floats, against 150 of the product before it.
//
// Registers: one unit's four gates and cell, and what one sigmoid or tanh needs beside them, at most 14; nothing is
// kept from one column to the next. Errors are those of sigmoid and tanh (simd/math.hpp, 2.5 and 1.4 ULP), plus half a
// ULP of each product and sum. An element does not depend on where in a row it stands.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// Strides count elements, from a row to the next.
struct LstmCellRows {
  const void* gates;
  const void* projected;
  void* cell;
  void* out;
  std::int64_t gates_stride;
  std::int64_t projected_stride;
  std::int64_t cell_stride;
  std::int64_t out_stride;
  std::int64_t rows;
  std::int64_t units;  // H
};

using LstmCellKernel = void (*)(const LstmCellRows&) noexcept;

struct LstmCellKernels {
  LstmCellKernel float32;
  LstmCellKernel float64;
};

}  // namespace attnlib
