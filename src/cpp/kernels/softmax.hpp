// Softmax and log-softmax of rows:
//
//   softmax(x)_i = e^(x_i - m) / s        log_softmax(x)_i = (x_i - m) - log s        m = max x,  s = sum_j e^(x_j - m)
//
// Three passes over a row, which stays in the first or second level of the cache between them: the maximum; the
// exponentials, each computed once and kept, with their sum; the scaling. (An online softmax would save the first pass
// over memory that is in the cache already, and pay a second exponential for it.) The first pass also widens float16
// and bfloat16 rows to float32, which are rounded once, at the end, and puts -inf where the mask is false. Short rows
// go through the passes in groups, long ones are summed in parts (kernels/row_parts.hpp).
//
// Error: e^x is computed as 2^(x log2 e), within 1.5 ULP; the sum of n terms runs in 4 * lanes chains a part, so that a
// result is within (4 + min(n, row_part) / (4 * lanes) + n / row_part) eps of its value, relatively; x_i - m adds eps
// |x_i - m|.
//
// A row whose elements are all masked or -inf gives zeros. NaN, and +inf as in NumPy, make their row NaN.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// Rows of one array, each contiguous. Strides count elements, from a row to the next.
struct SoftmaxRows {
  const void* x;
  void* out;         // may be x itself
  const bool* mask;  // true: takes part; nullptr: all do (always so for log_softmax)
  void* scratch;     // row_scratch(n) elements of the compute type, for float16 and bfloat16, and where out is streamed
  std::int64_t x_stride;
  std::int64_t out_stride;
  std::int64_t mask_stride;
  std::int64_t mask_step;  // from an element's flag to the next: 1, or 0 for one flag for the whole row
  std::int64_t rows;
  std::int64_t n;
  bool streamed;  // out is written past the caches (kernels/row_vectors.hpp), and once: it is not x
};

// A row, or a part of one, between the passes.
struct SoftmaxPart {
  const void* x;
  void* out;
  const bool* mask;  // a flag for each element, or nullptr
  void* scratch;     // n elements of the compute type, for float16 and bfloat16, and where out is streamed
  std::int64_t n;
  bool streamed;
};

// The passes over a part of a row, for rows that are split over threads; numbers of the compute type as double.
struct SoftmaxPasses {
  double (*maximum)(const SoftmaxPart&) noexcept;
  double (*sum)(const SoftmaxPart&, double maximum) noexcept;  // of the exponentials
  void (*finish)(const SoftmaxPart&, double maximum, double sum) noexcept;
};

struct SoftmaxKernel {
  void (*rows)(const SoftmaxRows&) noexcept;
  SoftmaxPasses passes;
};

// Indexed by DType.
struct SoftmaxKernels {
  SoftmaxKernel softmax[dtype_count];
  SoftmaxKernel log_softmax[dtype_count];
};

}  // namespace attnlib
