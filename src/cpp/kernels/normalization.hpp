// Layer norm and RMS norm of rows of n elements:
//
//   layer_norm(x) = (x - mean) / sqrt(var + eps) * weight + bias   (J. L. Ba, J. R. Kiros, G. Hinton, 2016)
//   rms_norm(x)   = x / sqrt(mean(x^2) + eps) * weight             (B. Zhang, R. Sennrich, 2019)
//
// with x + residual in place of x where there is a residual, added in the compute type and never rounded to float16.
// The variance is the mean of centred squares, in a pass of its own over a row that lies in the first-level cache:
// E[x^2] - E[x]^2 would cancel when the mean is large. Rows of a narrower type and sums with a residual are staged once
// in the compute type, by the first pass; the others then read the same row. Short rows go through the passes in
// groups, long ones are summed in parts (kernels/row_parts.hpp).
//
// Error: the mean is within (1 + min(n, row_part) / (4 * lanes) + n / row_part) eps of mean |x|; the rest adds about
// 6 eps relatively.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// Rows of one array, each contiguous. Strides count elements, from a row to the next.
struct NormRows {
  const void* x;
  const void* residual;  // nullptr: none
  const void* weight;    // n elements, nullptr: ones
  const void* bias;      // n elements, nullptr: zeros
  void* out;             // may be x or residual itself
  void* scratch;         // row_scratch(n) elements of the compute type, for float16, bfloat16 and residuals
  std::int64_t x_stride;
  std::int64_t residual_stride;
  std::int64_t out_stride;
  std::int64_t rows;
  std::int64_t n;
  std::int64_t group_elements;  // of a group of rows at most (kernels/row_parts.hpp); no result depends on it
  double eps;
  bool streamed;  // out is written past the caches (kernels/row_vectors.hpp)
};

// A row, or a part of one, between the passes.
struct NormPart {
  const void* x;
  const void* residual;
  const void* weight;
  const void* bias;
  void* out;
  void* scratch;  // n elements of the compute type, for float16, bfloat16 and residuals
  std::int64_t n;
};

// The passes over a part of a row, for rows that are split over threads; numbers of the compute type as double.
struct NormPasses {
  double (*sum)(const NormPart&) noexcept;                     // layer norm only, else nullptr
  double (*squares)(const NormPart&, double centre) noexcept;  // of what exceeds the centre
  void (*finish)(const NormPart&, double centre, double scale) noexcept;
};

struct NormKernel {
  void (*rows)(const NormRows&) noexcept;
  NormPasses passes;
};

// Indexed by DType.
struct NormalizationKernels {
  NormKernel layer_norm[dtype_count];
  NormKernel rms_norm[dtype_count];
};

}  // namespace attnlib
