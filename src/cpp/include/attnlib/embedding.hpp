// Rows of a table, looked up by number.
#pragma once

#include <cstdint>

#include "attnlib/tensor_view.hpp"

namespace attnlib {

// out (..., D) = the rows of weight (N, D) whose numbers are in x (...), row-major. std::invalid_argument for a number
// outside the table. Both arrays are of one dtype and contiguous along the last axis, out as a whole.
void embedding(const StridedView<const std::int64_t>& x, const TensorView& weight, const TensorView& out);

}  // namespace attnlib
