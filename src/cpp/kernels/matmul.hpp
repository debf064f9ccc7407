// Matrix products: out[m, n] = act(sum_k a[m, k] b[k, n] + bias[n]) + residual[m, n].
//
// Layout. b is cut into panels of `panel_width` columns (a few registers); inside a panel the columns of one k lie
// together: b(k, n) = panels[(n / width) * panel_stride + k * depth_stride + n % width]. Packed panels are dense
// (depth_stride = width) and padded with zeros; a row-major b is its own panels with depth_stride = its row stride.
// a is read in place, row by row, one broadcast at a time.
//
// Register budget. A tile of R rows and V vectors keeps R*V accumulators; one step of k loads V vectors of b and R
// broadcasts of a for R*V fused multiply-adds. With two load ports and two FMA ports of latency 4, at least 8
// accumulators hide the latency and R + V <= R * V keeps the loads off the critical path: 8 x 3 of 32 registers,
// 6 x 2 of 16.
//
// Order. Every output element is one accumulator that runs up k from 0: the same bits whichever tile, panel or thread
// computes it. A depth beyond `depth_block` is walked in chunks that keep the panel in the level-2 cache; between
// chunks the accumulators rest in memory in the compute type, which changes nothing.
//
// Error bound: |error| <= K eps |a| |b|, in practice sqrt(K) eps; eps of the compute type (float32, or float64 for
// float64), then one rounding to the type of out.
#pragma once

#include <cstdint>

#include "attnlib/dtype.hpp"

namespace attnlib {

struct MatmulBlock {
  std::int64_t rows, columns, depth;
  const void* a;  // compute type
  std::int64_t a_stride;
  const void* panels;  // the type of the panels
  std::int64_t panel_stride, depth_stride;
  void* out;
  std::int64_t out_stride;
  const void* bias;      // compute type, (columns,), or null
  const void* residual;  // type of out, or null
  std::int64_t residual_stride;
  Activation activation;
};

// b(k, n) = source[k * depth_stride + n * column_stride], to be written to dense panels.
struct MatmulPack {
  std::int64_t depth, columns;
  const void* source;
  std::int64_t depth_stride, column_stride;
  void* panels;
};

struct MatmulKernels {
  // Columns of a panel, rows of the largest tile, by the compute type: [0] float, [1] double.
  std::int64_t panel_width[2];
  std::int64_t tile_rows[2];
  // [type of out][type of the panels]; null where the combination does not occur.
  void (*multiply[dtype_count][dtype_count])(const MatmulBlock* block) noexcept;
  // [type of the source][type of the panels]; null likewise.
  void (*pack[dtype_count][dtype_count])(const MatmulPack* pack) noexcept;
  // Widens rows of float16 or bfloat16 to dense float32 rows: [type of the source].
  void (*widen[dtype_count])(const void* source, std::int64_t count, float* target) noexcept;
};

}  // namespace attnlib
