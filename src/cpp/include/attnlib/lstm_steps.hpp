// The recurrence of an LSTM: what is left of it when the inputs of all steps have been projected.
#pragma once

#include "attnlib/matmul.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

struct LstmWeights {
  const PackedWeight* recurrent;         // (4 H, P)
  const PackedWeight* output = nullptr;  // (P, H), or none, where P is H
};

// std::invalid_argument unless projected is (B, S, 4 H), hidden (B, P) and cell (B, H), and the weights go with them.
void check_lstm_steps(const TensorView& projected, const LstmWeights& weights, const TensorView& hidden,
                      const TensorView& cell);

// For each step, from the last to the first if `backwards`: a = projected + hidden @ recurrent.T, in four blocks i, f,
// g, o; cell = sigmoid(f) * cell + sigmoid(i) * tanh(g); out = hidden = sigmoid(o) * tanh(cell), through `output`.
// All arrays float32 or all float64, contiguous along the last axis; cell is overwritten and shares no memory with the
// others, nor does out, (B, S, P). A float64 weight goes with float64 arrays, and they with no other.
void lstm_steps(const TensorView& projected, const LstmWeights& weights, const TensorView& hidden, bool backwards,
                const TensorView& cell, const TensorView& out);

}  // namespace attnlib
