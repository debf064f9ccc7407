#include "attnlib/activation.hpp"

#include "isa/dispatch.hpp"
#include "ops/row_walk.hpp"
#include "ops/streaming.hpp"
#include "runtime/parallel.hpp"

namespace attnlib {
namespace {

// Rough times of an element on one core, to decide on threads: the C library's functions serve float64.
double nanoseconds_per_element(Activation kind, DType dtype) {
  if (kind == Activation::relu) return 0.1;
  return dtype == DType::float64 ? 5.0 : 0.4;
}

// Splits the elements over tasks by rows and, where rows are long, by columns too: elementwise, any split will do.
template <std::size_t Arrays, class Kernel>
void for_each_block(RowWalk<Arrays> walk, double nanoseconds, Kernel&& kernel) {
  const std::int64_t n = walk.take_contiguous_axis();
  const std::int64_t rows = walk.rows();
  if (rows == 0 || n == 0) return;
  const int threads = threads_for(nanoseconds * static_cast<double>(rows) * static_cast<double>(n));
  const std::int64_t columns = std::min(n, elements_per_task(rows * n, threads));
  const std::int64_t across = (n + columns - 1) / columns;
  const std::int64_t block = std::clamp<std::int64_t>(elements_per_task(rows * n, threads) / columns, 1, rows);
  const std::int64_t down = (rows + block - 1) / block;
  parallel_for(down * across, threads, [&](std::int64_t task) {
    const std::int64_t begin = task / across * block;
    const std::int64_t first = task % across * columns;
    walk.for_each_run(begin, std::min(begin + block, rows), [&](const auto& offsets, const auto& steps, auto count) {
      auto shifted = offsets;
      for (std::int64_t& offset : shifted) offset += first;
      kernel(shifted, steps, count, std::min(columns, n - first));
    });
  });
}

}  // namespace

const char* activation_name(Activation kind) {
  constexpr const char* names[activation_count] = {"none", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"};
  return names[static_cast<int>(kind)];
}

void activate(Activation kind, const TensorView& x, const TensorView& out) {
  const bool streamed = worth_streaming(out, out.rank() - 1, {&x});
  const ActivationKernel kernel =
      kernels().activation->activate[static_cast<std::size_t>(kind)][static_cast<std::size_t>(x.dtype)];
  for_each_block(RowWalk<2>(x.shape, {x.strides, out.strides}, x.rank()), nanoseconds_per_element(kind, x.dtype),
                 [&](const auto& offsets, const auto& steps, std::int64_t rows, std::int64_t n) {
                   kernel({.x = x.at(offsets[0]),
                           .up = nullptr,
                           .out = out.at(offsets[1]),
                           .x_stride = steps[0],
                           .up_stride = 0,
                           .out_stride = steps[1],
                           .rows = rows,
                           .n = n,
                           .streamed = streamed});
                 });
}

Shape swiglu_shape(const TensorView& gate, const TensorView& up) {
  return broadcast_shapes(gate.shape, up.shape, "swiglu: gate and up");
}

void swiglu(const TensorView& gate, const TensorView& up, const TensorView& out) {
  const Shape gate_strides = broadcast_strides(gate.shape, gate.strides, out.shape, "swiglu: gate");
  const Shape up_strides = broadcast_strides(up.shape, up.strides, out.shape, "swiglu: up");
  const bool streamed = worth_streaming(out, out.rank() - 1, {&gate, &up});
  const ActivationKernel kernel = kernels().activation->swiglu[static_cast<std::size_t>(out.dtype)];
  for_each_block(RowWalk<3>(out.shape, {gate_strides, up_strides, out.strides}, out.rank()),
                 nanoseconds_per_element(Activation::silu, out.dtype),
                 [&](const auto& offsets, const auto& steps, std::int64_t rows, std::int64_t n) {
                   kernel({.x = gate.at(offsets[0]),
                           .up = up.at(offsets[1]),
                           .out = out.at(offsets[2]),
                           .x_stride = steps[0],
                           .up_stride = steps[1],
                           .out_stride = steps[2],
                           .rows = rows,
                           .n = n,
                           .streamed = streamed});
                 });
}

}  // namespace attnlib
