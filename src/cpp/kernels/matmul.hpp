// Matrix products: out[m, n] = act(sum_k a[m, k] b[k, n] + bias[n]) + residual[m, n].
//
// Units. What multiplies what is a ProductKind; each has a unit, the part of the reduction that one lane holds: one
// float, double or float16, two bfloat16, four int8. The walk over a product is the same for all of them: depth counts
// units, a is rows of units (`left`), b is panels of units (kernels/matmul_tile.hpp).
//
// Layout. b is cut into panels of `panel_width` columns (a few registers); inside a panel the columns of one unit lie
// together: unit (k, n) = panels[n / width * panel_stride + k * depth_stride + n % width]. Packed panels are dense
// (depth_stride = width) and padded with zeros; a row-major b is its own panels with depth_stride = its row stride.
// a is read row by row, one broadcast at a time; a matrix unit has its rows arranged (kernels/matrix_unit.hpp).
//
// Register budget. A tile of R rows and V vectors keeps R*V accumulators; one step loads V vectors of b and R
// broadcasts of a for R*V fused multiply-adds. With two load ports and two FMA ports of latency 4, at least 8
// accumulators hide the latency and R + V <= R * V keeps the loads off the critical path: 8 x 3 of 32 registers,
// 6 x 2 of 16.
//
// Order. Every output element is one accumulator that runs up k from 0: the same bits whichever tile, panel or thread
// computes it. A depth beyond `depth_block` is walked in chunks that keep the panel in the level-2 cache while all rows
// of a block pass by; between chunks the accumulators rest in memory, which changes nothing.
//
// Error bound: |error| <= K eps |a| |b|, in practice sqrt(K) eps; eps of the compute type (float32, or float64 for
// float64), then one rounding to the type of out. int8 and int4: kernels/matmul_int8.cpp, kernels/matmul_int4.cpp.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

// What a is multiplied with, and how. The first four are those of DType: a and b of the compute type, b widened on the
// way. `bfloat16` widens b alone (a is float32); `bfloat16_dot` takes both as they are, where the CPU can.
enum class ProductKind : std::uint8_t { float32, float64, float16, bfloat16, bfloat16_dot, int8, int4 };
constexpr int product_kind_count = 7;

// int8: values of a row whose codes exceed 8 bits, and by how much (16 bits with sign hold it); an excess of 0 is none.
struct RowOutliers {
  static constexpr int most = 2;
  std::int32_t index[most], excess[most];
};

// The most rows of a block; a matrix unit has a number of its own.
constexpr std::int64_t largest_block_rows = 96;

struct MatmulBlock {
  std::int64_t rows, columns, depth;  // depth in units
  const void* left;                   // rows of units, or arranged ones
  std::int64_t left_stride;           // in units; not of arranged rows
  // What follows in memory and is needed next: after the last row of left, and after b that is read in place.
  std::int64_t left_bytes_after, panel_bytes_after;
  const void* panels;
  std::int64_t panel_stride, depth_stride;  // in units
  void* out;
  std::int64_t out_stride;
  const void* bias;      // compute type, (columns,), or null
  const void* residual;  // type of out, or null
  std::int64_t residual_stride;
  Activation activation;
  bool single_tile_fetches;  // a panel, while it passes a few rows: where there is a matrix unit (multiply_block)
  // int8 and int4 alone, see there.
  const float* row_scales;
  const std::int32_t* row_offsets;
  const RowOutliers* row_outliers;
  const float* column_scales;
  const std::int32_t* column_sums;
  std::int64_t group_size;
};

// b(k, n) = source[k * depth_stride + n * column_stride], to be written to dense panels of `width` columns.
struct MatmulPack {
  std::int64_t depth, columns;
  const void* source;
  std::int64_t depth_stride, column_stride;
  void* panels;
};

// Rows of a, to be written as rows of units, the last unit padded with zeros.
struct MatmulRows {
  std::int64_t rows, depth;
  const void* source;
  std::int64_t source_stride;
  void* target;
  std::int64_t target_stride;  // in elements of the target
  float* scales;               // int8: (rows,); int4: (rows, groups)
  std::int32_t* offsets;       // int8: (rows,), the code of 0; int4: (rows, groups), sums of the codes
  RowOutliers* outliers;       // int8: (rows,)
  const float* balance;        // int8: (depth,), padded to whole registers: what the columns of a are multiplied by
  float* row_values;           // int8: scratch for a row in float32, (depth,) padded to whole staged_values
  std::int64_t group_size;
};
constexpr std::int64_t staged_values =
    64;  // a multiple of what any rung makes codes of at once (kernels/simd/codes.hpp)

// Few rows times a row-major b in place: out[m, n] = sum_k a[m, k] b[k, n], walking b row by row.
struct MatmulRowMajor {
  std::int64_t rows, columns, depth;
  const void* a;
  std::int64_t a_stride;
  const void* b;
  std::int64_t b_stride;
  void* out;
  std::int64_t out_stride;
};

using MultiplyFunction = void (*)(const MatmulBlock*) noexcept;
using PackFunction = void (*)(const MatmulPack*) noexcept;
using StageFunction = void (*)(const MatmulRows*) noexcept;

struct MatmulKernels {
  // Columns of a panel, rows of the largest tile, by the compute type: [0] float (and the integers), [1] double.
  std::int64_t panel_width[2];
  std::int64_t tile_rows[2];
  bool has_bfloat16_dot;
  // [type of out][kind]; null where the combination does not occur.
  MultiplyFunction multiply[dtype_count][product_kind_count];
  // [type of the source][kind of the panels]; null likewise. int8 and int4 are packed by ops/quantize.cpp.
  PackFunction pack[dtype_count][product_kind_count];
  // [type of a][kind]; null where a is always read in place.
  StageFunction stage[dtype_count][product_kind_count];
  // By the compute type.
  void (*multiply_row_major[2])(const MatmulRowMajor* product) noexcept;
};

}  // namespace attnlib
