// One matrix product, planned: how a and b become what the kernels read, how the output is cut into tasks. matmul and
// linear are made of it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attnlib/dtype.hpp"
#include "attnlib/matmul.hpp"

namespace attnlib {

// out[m, n] = act(sum_k a[m, k] b[k, n] + bias[n]) + residual[m, n]; strides in elements.
struct Product {
  std::int64_t rows = 0, columns = 0, depth = 0;
  DType dtype = DType::float32;  // of a, out, residual and a plain b
  const std::byte* a = nullptr;  // contiguous along k
  std::int64_t a_stride = 0;
  const PackedWeight* packed = nullptr;  // b = packed.T from this column on, the first of a panel; or, without:
  std::int64_t first_column = 0;
  const std::byte* b = nullptr;  // b[k * b_depth_stride + n * b_column_stride]
  std::int64_t b_depth_stride = 0, b_column_stride = 0;
  std::byte* out = nullptr;  // contiguous along n
  std::int64_t out_stride = 0;
  const std::byte* bias = nullptr;  // of the compute type
  const std::byte* residual = nullptr;
  std::int64_t residual_stride = 0;
  Activation activation = Activation::none;
  // So many products, with these distances between their arrays, if takes_batch() says so. `fetches_next`: each is
  // worth being fetched while the one before is multiplied, where it follows in memory.
  std::int64_t batch = 1, a_batch_stride = 0, b_batch_stride = 0, out_batch_stride = 0;
  bool fetches_next = false;

  bool has_epilogue() const { return bias != nullptr || residual != nullptr || activation != Activation::none; }
};

// A member's share of the columns of a product with a packed weight: whole panels. None are 0 columns.
Product share_of(const Product& product, std::int64_t member, std::int64_t members);

// Whether a batch of such products may be run as one: what they read lies ready in a and b.
bool takes_batch(const Product& product);

// On up to `threads` threads (0: as many as the work is worth).
void run_product(const Product& product, int threads);

// The time one core takes for a product with an unpacked b of `element_size` bytes, roughly.
double product_nanoseconds(std::int64_t rows, std::int64_t columns, std::int64_t depth, double element_size);

// The same for a packed weight.
double product_nanoseconds(std::int64_t rows, const PackedWeight& weight);

inline DType compute_dtype(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

}  // namespace attnlib
