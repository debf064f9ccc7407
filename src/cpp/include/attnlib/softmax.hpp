// Softmax over one axis.
#pragma once

#include <string>

#include "attnlib/tensor_view.hpp"

namespace attnlib {

// out = e^x / sum(e^x) along `axis` (negative: from the end) of x. Where `mask` (broadcast to x's shape) is false an
// element takes no part and gives 0. Rows that are all masked or -inf give zeros. `out` has x's shape and dtype and
// shares no memory with x, or is x. std::invalid_argument if the axis is out of range or the mask does not broadcast.
void softmax(const TensorView& x, int axis, const BoolView* mask, const TensorView& out);

// out = x - log(sum(e^x)) along `axis`. Rows that are all -inf give zeros.
void log_softmax(const TensorView& x, int axis, const TensorView& out);

// What both check first; of use before memory for the result is allocated.
void check_softmax(const std::string& operation, const TensorView& x, int axis, const BoolView* mask);

}  // namespace attnlib
