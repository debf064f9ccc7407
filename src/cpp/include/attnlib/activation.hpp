// Elementwise activations.
#pragma once

#include "attnlib/tensor_view.hpp"

namespace attnlib {

// The Python name: "relu", "gelu", ...
const char* activation_name(Activation kind);

// out = f(x), element by element; any strides. `out` has x's shape and dtype and shares no memory with x, or is x.
void activate(Activation kind, const TensorView& x, const TensorView& out);

// out = silu(gate) * up, broadcast as NumPy does. `out` has the broadcast shape and shares no memory with gate or up,
// or is one of them. std::invalid_argument if the shapes do not broadcast.
void swiglu(const TensorView& gate, const TensorView& up, const TensorView& out);

// The shape of swiglu's result.
Shape swiglu_shape(const TensorView& gate, const TensorView& up);

}  // namespace attnlib
