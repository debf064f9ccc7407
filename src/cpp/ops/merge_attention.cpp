#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "attnlib/attention.hpp"
#include "isa/dispatch.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {

void merge_attention(const TensorView& outs, const TensorView& lses, const TensorView& out, const TensorView& lse) {
  if (outs.rank() < 2 || lses.rank() != outs.rank() - 1 || !(outs.shape.first(outs.rank() - 1) == lses.shape))
    throw std::invalid_argument("merge_attention: outs must be (N, ..., S, D) and lses (N, ..., S), got " +
                                outs.shape.to_string() + " and " + lses.shape.to_string());
  const std::int64_t parts = outs.shape[0], width = outs.shape.from_end(1), rows = lse.size();
  const bool is_double = out.dtype == DType::float64;
  const auto merge = kernels().attention->merge[static_cast<int>(out.dtype)];
  const int threads =
      threads_for(static_cast<double>(rows) * static_cast<double>(parts) * static_cast<double>(width + 8));
  const std::int64_t chunk = std::clamp<std::int64_t>(rows / (4 * threads), 1, 4096);
  parallel_for((rows + chunk - 1) / chunk, threads, [&](std::int64_t task) {
    const std::int64_t first = task * chunk;
    MergeTask arguments;
    arguments.parts = parts;
    arguments.rows = std::min(chunk, rows - first);
    arguments.width = width;
    arguments.outs = outs.at(first * width);
    arguments.out_part_stride = rows * width;
    arguments.lses = static_cast<std::byte*>(lses.data) + first * (is_double ? 8 : 4);
    arguments.lse_part_stride = rows;
    arguments.out = out.at(first * width);
    arguments.lse = static_cast<std::byte*>(lse.data) + first * (is_double ? 8 : 4);
    merge(&arguments);
  });
}

}  // namespace attnlib
