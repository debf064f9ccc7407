// The second half of a Llama layer: a gated feed-forward network after a norm, added to its input.
#pragma once

#include "attnlib/matmul.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

struct GatedFeedForward {
  const TensorView* norm_weight;  // (d,), or none
  double eps;                     // as for rms_norm
  const PackedWeight* gate_up;    // (2 I, d): the gate's rows, then those of what it gates
  const PackedWeight* down;       // (d, I)
};

// std::invalid_argument unless x, (..., d), and the weights go with each other.
void check_gated_feed_forward(const TensorView& x, const GatedFeedForward& network);

// out = x + swiglu(rms_norm(x) @ gate_up.T) @ down.T. x, norm_weight and out are of one dtype and contiguous along the
// last axis; out has x's shape and shares no memory with the others. A float64 weight goes with float64 arrays, and
// they with no other.
void gated_feed_forward(const TensorView& x, const GatedFeedForward& network, const TensorView& out);

}  // namespace attnlib
