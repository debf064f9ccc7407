// Activations, element by element, and SwiGLU's gate (N. Shazeer, 2020): silu(gate) * up.
//
// The functions, with their errors, are those of kernels/simd/math.hpp, which the epilogue of linear() shares. An
// element's result does not depend on where in a row it stands: full registers and the tail run the same instructions.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// Rows of one array, each contiguous. Strides count elements, from a row to the next.
struct ActivationRows {
  const void* x;
  const void* up;  // swiglu only, where x is the gate
  void* out;       // may be x or up itself
  std::int64_t x_stride;
  std::int64_t up_stride;
  std::int64_t out_stride;
  std::int64_t rows;
  std::int64_t n;
  bool streamed;  // out is written past the caches (kernels/row_vectors.hpp)
};

using ActivationKernel = void (*)(const ActivationRows&) noexcept;

// Indexed by Activation (none is a null pointer), then by DType.
struct ActivationKernels {
  ActivationKernel activate[activation_count][dtype_count];
  ActivationKernel swiglu[dtype_count];
};

}  // namespace attnlib
