// The element-wise part of a step of an LSTM.
#pragma once

#include "attnlib/tensor_view.hpp"

namespace attnlib {

// With a = gates + projected in four blocks i, f, g, o of H columns:
// cell_out = sigmoid(f) * cell + sigmoid(i) * tanh(g), out = sigmoid(o) * tanh(cell_out).
// gates and projected are (B, 4 H), cell, cell_out and out (B, H), all float32 or all float64 and contiguous along the
// last axis. out shares no memory with the others, cell_out neither, or is cell.
void lstm_cell(const TensorView& gates, const TensorView& projected, const TensorView& cell, const TensorView& out,
               const TensorView& cell_out);

// std::invalid_argument unless cell is (B, H), and gates and projected are (B, 4 H).
void check_lstm_cell(const TensorView& gates, const TensorView& projected, const TensorView& cell);

}  // namespace attnlib
