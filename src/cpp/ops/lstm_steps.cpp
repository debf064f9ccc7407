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

// A member's share of the rows.
void update_cell(const TensorView& gates, const TensorView& projected, const TensorView& cell, const TensorView& out,
                 std::int64_t member, std::int64_t members) {
  const LstmCellKernel kernel =
      cell.dtype == DType::float64 ? kernels().lstm_cell->float64 : kernels().lstm_cell->float32;
  const std::int64_t row = share_begin(cell.shape[0], member, members);
  kernel({.gates = gates.at(row * gates.strides[0]),
          .projected = projected.at(row * projected.strides[0]),
          .cell = cell.at(row * cell.strides[0]),
          .out = out.at(row * out.strides[0]),
          .gates_stride = gates.strides[0],
          .projected_stride = projected.strides[0],
          .cell_stride = cell.strides[0],
          .out_stride = out.strides[0],
          .rows = share_begin(cell.shape[0], member + 1, members) - row,
          .units = cell.shape[1]});
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
  // A step is short, and threads that would be called for each product and each cell came late: they stay together.
  const std::int64_t phases = weights.output == nullptr ? 2 : 3;
  const int threads = threads_for(product_nanoseconds(batch, *weights.recurrent));
  parallel_phases(steps * phases, threads, [&](std::int64_t phase, std::int64_t member, std::int64_t members) {
    const LinearOptions share{.threads = 1, .member = member, .members = members};
    const std::int64_t index = phase / phases;
    const auto step_of = [&](std::int64_t i) { return backwards ? steps - 1 - i : i; };
    const TensorView here = at_step(out, step_of(index));
    const TensorView result = weights.output == nullptr ? here : whole;
    if (phase % phases == 0)
      linear(index == 0 ? hidden : at_step(out, step_of(index - 1)), *weights.recurrent, share, gates);
    else if (phase % phases == 1)
      update_cell(gates, at_step(projected, step_of(index)), cell, result, member, members);
    else
      linear(whole, *weights.output, share, here);
  });
}

}  // namespace attnlib
