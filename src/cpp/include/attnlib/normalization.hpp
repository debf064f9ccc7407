// Layer norm and RMS norm over the last axis.
#pragma once

#include <string>

#include "attnlib/tensor_view.hpp"

namespace attnlib {

// out = (x - mean) / sqrt(var + eps) * weight + bias over the last axis, of x + residual if there is a residual.
// weight and bias (n,) and residual (broadcast to x's shape, its last axis not) may be null; all arrays are of one
// dtype and contiguous along the last axis. `out` has x's shape and shares no memory with the inputs, or is x or
// residual. std::invalid_argument for shapes that do not fit, a 0-d x and an eps that is negative or NaN.
void layer_norm(const TensorView& x, const TensorView* weight, const TensorView* bias, double eps,
                const TensorView* residual, const TensorView& out);

// out = x / sqrt(mean(x^2) + eps) * weight; the rest as for layer_norm.
void rms_norm(const TensorView& x, const TensorView* weight, double eps, const TensorView* residual,
              const TensorView& out);

// The parameters of a layer norm.
struct NormParts {
  const TensorView *weight = nullptr, *bias = nullptr;
  double eps;
};

// What both check first; of use before arrays are brought into the form that they want.
void check_normalization(const std::string& operation, const TensorView& x, const TensorView* weight,
                         const TensorView* bias, double eps, const TensorView* residual);

}  // namespace attnlib
