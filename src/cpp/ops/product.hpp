// One matrix product, planned: how b becomes panels, how the output is cut into tasks. matmul and linear are made of
// it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// out[m, n] = act(sum_k a[m, k] b[k, n] + bias[n]) + residual[m, n]; strides in elements.
struct Product {
  std::int64_t rows = 0, columns = 0, depth = 0;
  DType dtype = DType::float32;  // of a, out and residual
  const std::byte* a = nullptr;  // contiguous along k
  std::int64_t a_stride = 0;
  DType b_dtype = DType::float32;
  const std::byte* b = nullptr;
  // A plain b: b[k * b_depth_stride + n * b_column_stride]. Packed panels: b_panel_width > 0.
  std::int64_t b_depth_stride = 0, b_column_stride = 0, b_panel_width = 0;
  std::byte* out = nullptr;  // contiguous along n
  std::int64_t out_stride = 0;
  const std::byte* bias = nullptr;  // of the compute type
  const std::byte* residual = nullptr;
  std::int64_t residual_stride = 0;
  Activation activation = Activation::none;
};

// On up to `threads` threads (0: as many as the work is worth).
void run_product(const Product& product, int threads);

// The time one core takes for a product, roughly.
double product_nanoseconds(std::int64_t rows, std::int64_t columns, std::int64_t depth);

inline DType compute_dtype(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

// Packs b(k, n) = source[k * depth_stride + n * column_stride] into panels of the kernels in use, panels in parallel.
// A source with neither stride 1 is staged.
void pack_panels(const std::byte* source, DType source_dtype, std::int64_t depth, std::int64_t columns,
                 std::int64_t depth_stride, std::int64_t column_stride, std::byte* panels, DType panel_dtype,
                 int threads);

// Widens `count` elements of float16 or bfloat16.
void widen_row(const std::byte* source, DType dtype, std::int64_t count, float* target);

// Bytes that pack_panels fills.
std::int64_t panel_bytes(std::int64_t depth, std::int64_t columns, DType panel_dtype);
std::int64_t panel_width_of(DType dtype);

}  // namespace attnlib
