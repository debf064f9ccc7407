#include "attnlib/lstm_steps.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "isa/dispatch.hpp"
#include "ops/product.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

// One step of an array (B, S, columns), as (B, columns).
TensorView at_step(const TensorView& array, std::int64_t step) {
  TensorView view = array;
  view.data = array.at(step * array.strides[1]);
  view.shape = {array.shape[0], array.shape[2]};
  view.strides = {array.strides[0], array.strides[2]};
  return view;
}

void update_cell(const TensorView& gates, const TensorView& projected, const TensorView& cell, const TensorView& out,
                 int threads) {
  const std::int64_t batch = cell.shape[0], units = cell.shape[1];
  const LstmCellKernel kernel =
      cell.dtype == DType::float64 ? kernels().lstm_cell->float64 : kernels().lstm_cell->float32;
  const std::int64_t block = (batch + threads - 1) / threads;
  parallel_for((batch + block - 1) / block, threads, [&](std::int64_t task) {
    const std::int64_t row = task * block;
    kernel({.gates = gates.at(row * gates.strides[0]),
            .projected = projected.at(row * projected.strides[0]),
            .cell = cell.at(row * cell.strides[0]),
            .out = out.at(row * out.strides[0]),
            .gates_stride = gates.strides[0],
            .projected_stride = projected.strides[0],
            .cell_stride = cell.strides[0],
            .out_stride = out.strides[0],
            .rows = std::min(block, batch - row),
            .units = units});
  });
}

}  // namespace

void check_lstm_steps(const TensorView& projected, const LstmWeights& weights, const TensorView& hidden,
                      const TensorView& cell) {
  if (projected.rank() != 3 || cell.rank() != 2)
    throw std::invalid_argument("lstm_steps: projected must be (B, S, 4 H) and cell (B, H), got shapes " +
                                projected.shape.to_string() + " and " + cell.shape.to_string());
  const std::int64_t batch = projected.shape[0], units = cell.shape[1];
  const std::int64_t size = weights.output == nullptr ? units : weights.output->out_features();
  const auto check = [](const char* name, const Shape& found, const Shape& wanted) {
    if (!(found == wanted))
      throw std::invalid_argument(std::string("lstm_steps: ") + name + " must be " + wanted.to_string() +
                                  ", got shape " + found.to_string());
  };
  check("projected", projected.shape, {batch, projected.shape[1], 4 * units});
  check("cell", cell.shape, {batch, units});
  check("hidden", hidden.shape, {batch, size});
  check("weight", {weights.recurrent->out_features(), weights.recurrent->in_features()}, {4 * units, size});
  if (weights.output != nullptr)
    check("output_weight", {weights.output->out_features(), weights.output->in_features()}, {size, units});
}

void lstm_steps(const TensorView& projected, const LstmWeights& weights, const TensorView& hidden, bool backwards,
                const TensorView& cell, const TensorView& out) {
  const std::int64_t batch = cell.shape[0], units = cell.shape[1], steps = projected.shape[1];
  if (batch == 0) return;
  const std::int64_t size = dtype_size(cell.dtype);
  Scratch memory(batch * 5 * units * size);
  const TensorView gates = contiguous_view(memory.as<std::byte>(), {batch, 4 * units}, cell.dtype);
  const TensorView whole =
      contiguous_view(memory.as<std::byte>() + batch * 4 * units * size, {batch, units}, cell.dtype);
  // 9 microseconds for 8 x 512 floats are not worth waking a thread for, but those of the product are awake.
  const int threads = threads_for(product_nanoseconds(batch, *weights.recurrent));
  TensorView before = hidden;
  for (std::int64_t index = 0; index < steps; ++index) {
    const std::int64_t step = backwards ? steps - 1 - index : index;
    const TensorView here = at_step(out, step);
    if (units != 0) {
      linear(before, *weights.recurrent, {}, gates);
      update_cell(gates, at_step(projected, step), cell, weights.output == nullptr ? here : whole, threads);
    }
    if (weights.output != nullptr) linear(whole, *weights.output, {}, here);
    before = here;
  }
}

}  // namespace attnlib
