// Rotary position embedding.
#pragma once

#include "attnlib/tensor_view.hpp"

namespace attnlib {

// Turns the first R <= D features of x (..., H, S, D) by the angles of their positions and copies the rest to `out`.
//
// cos and sin are tables (max_position, R/2), of which `positions` (S,) or (B, S) picks rows (null: 0..S-1), or the
// picked rows themselves (B, S, R/2), with null positions. B counts all axes of x before H together; 1 serves any.
// interleaved: plane i is features (2i, 2i + 1) rather than (i, i + R/2). All arrays are of one dtype and contiguous
// along the last axis; `out` has x's shape and shares no memory with the inputs, or is x. std::invalid_argument for
// shapes that do not fit and positions outside the tables.
void rotary_embedding(const TensorView& x, const TensorView& cos, const TensorView& sin,
                      const StridedView<const std::int64_t>* positions, bool interleaved, const TensorView& out);

// What it checks first; of use before arrays are brought into the form that it wants.
void check_rotary_embedding(const TensorView& x, const TensorView& cos, const TensorView& sin,
                            const StridedView<const std::int64_t>* positions);

}  // namespace attnlib
