#include "attnlib/lstm_cell.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "isa/dispatch.hpp"
#include "runtime/parallel.hpp"

namespace attnlib {

void check_lstm_cell(const TensorView& gates, const TensorView& projected, const TensorView& cell) {
  if (cell.rank() != 2)
    throw std::invalid_argument("lstm_cell: cell must be (B, H), got shape " + cell.shape.to_string());
  const Shape wanted{cell.shape[0], 4 * cell.shape[1]};
  const auto check = [&](const TensorView& view, const char* name) {
    if (!(view.shape == wanted))
      throw std::invalid_argument(std::string("lstm_cell: ") + name + " must be " + wanted.to_string() + " with cell " +
                                  cell.shape.to_string() + ", got shape " + view.shape.to_string());
  };
  check(gates, "gates");
  check(projected, "projected");
}

void lstm_cell(const TensorView& gates, const TensorView& projected, const TensorView& cell, const TensorView& out,
               const TensorView& cell_out) {
  const std::int64_t batch = cell.shape[0], units = cell.shape[1];
  if (batch == 0 || units == 0) return;

  const LstmCellKernel kernel =
      cell.dtype == DType::float64 ? kernels().lstm_cell->float64 : kernels().lstm_cell->float32;
  // A unit takes five sigmoids and tanhs; see ops/activation.cpp for their times.
  const double nanoseconds = (cell.dtype == DType::float64 ? 25.0 : 2.0) * static_cast<double>(batch * units);
  const int threads = threads_for(nanoseconds);
  const std::int64_t block = (batch + threads - 1) / threads;
  parallel_for((batch + block - 1) / block, threads, [&](std::int64_t task) {
    const std::int64_t row = task * block;
    kernel({.gates = gates.at(row * gates.strides[0]),
            .projected = projected.at(row * projected.strides[0]),
            .cell = cell.at(row * cell.strides[0]),
            .cell_out = cell_out.at(row * cell_out.strides[0]),
            .out = out.at(row * out.strides[0]),
            .gates_stride = gates.strides[0],
            .projected_stride = projected.strides[0],
            .cell_stride = cell.strides[0],
            .cell_out_stride = cell_out.strides[0],
            .out_stride = out.strides[0],
            .rows = std::min(block, batch - row),
            .units = units});
  });
}

}  // namespace attnlib
