#include "attnlib/normalization.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa/dispatch.hpp"
#include "ops/row_walk.hpp"
#include "ops/streaming.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

void check_row(const std::string& operation, const char* argument, const TensorView* vector, const TensorView& x) {
  if (vector == nullptr || vector->shape == Shape{x.shape.from_end(1)}) return;
  throw std::invalid_argument(operation + ": " + argument + " must have shape " +
                              Shape{x.shape.from_end(1)}.to_string() + " for x of shape " + x.shape.to_string() +
                              ", got " + vector->shape.to_string());
}

// A weight or bias for many rows. One that begins within a cache line, as NumPy's arrays mostly do, would take two
// lines for each register in every row, so it is copied: 4 to 8 % of 128 rows of 768. From how many rows on was chosen,
// not measured.
class RowVector {
 public:
  RowVector(const TensorView* vector, std::int64_t rows) : data_(vector == nullptr ? nullptr : vector->at(0)) {
    constexpr std::int64_t rows_worth_copying = 16;
    constexpr std::uintptr_t line = 64;
    if (data_ == nullptr || rows < rows_worth_copying || reinterpret_cast<std::uintptr_t>(data_) % line == 0) return;
    const std::int64_t bytes = vector->shape[0] * dtype_size(vector->dtype);
    copy_.emplace(bytes);
    std::memcpy(copy_->as<std::byte>(), data_, static_cast<std::size_t>(bytes));
    data_ = copy_->as<std::byte>();
  }
  const std::byte* data() const { return data_; }

 private:
  const std::byte* data_;
  std::optional<Scratch> copy_;
};

// One long row, its parts dealt out to threads: pass by pass, and the parts' results joined in their order. Numbers are
// of the compute type C at every step, as in a kernel.
template <class C, class PartOf>
void normalize_divided(const NormPasses& passes, PartOf&& part, std::int64_t n, DType dtype, double eps, int threads) {
  const std::int64_t parts = (n + row_part - 1) / row_part;
  std::vector<double> results(static_cast<std::size_t>(parts));
  const auto result = [&](std::int64_t index) -> double& { return results[static_cast<std::size_t>(index)]; };
  const auto mean = [&] { return static_cast<C>(sum_parts(results, dtype)) / static_cast<C>(n); };
  C centre = 0;
  if (passes.sum != nullptr) {
    parallel_for(parts, threads, [&](std::int64_t index) { result(index) = passes.sum(part(index)); });
    centre = mean();
  }
  parallel_for(parts, threads, [&](std::int64_t index) { result(index) = passes.squares(part(index), centre); });
  const C scale = C{1} / std::sqrt(mean() + static_cast<C>(eps));
  parallel_for(parts, threads, [&](std::int64_t index) { passes.finish(part(index), centre, scale); });
}

void normalize(const char* operation, const NormKernel& kernel, const TensorView& x, const TensorView* weight,
               const TensorView* bias, double eps, const TensorView* residual, const TensorView& out) {
  check_normalization(operation, x, weight, bias, eps, residual);
  const std::int64_t n = x.shape.from_end(1);
  const Shape residual_strides =
      residual == nullptr ? x.strides : broadcast_strides(residual->shape, residual->strides, x.shape, operation);
  const RowWalk<3> walk(x.shape, {x.strides, residual_strides, out.strides}, x.rank() - 1);
  const std::int64_t rows = walk.rows();
  if (rows == 0 || n == 0) return;
  constexpr double nanoseconds_per_element = 0.25;
  const int threads = threads_for(nanoseconds_per_element * static_cast<double>(rows) * static_cast<double>(n));
  const std::int64_t compute_size = x.dtype == DType::float64 ? 8 : 4;
  const bool staged = residual != nullptr || dtype_size(x.dtype) != compute_size;
  if (divides_rows(rows, n, threads)) {
    const Scratch scratch(staged ? n * compute_size : 0);
    walk.for_each_run(0, rows, [&](const auto& offsets, const auto& steps, std::int64_t count) {
      for (std::int64_t row = 0; row < count; ++row) {
        const auto part = [&](std::int64_t index) {
          const std::int64_t begin = index * row_part;
          return NormPart{.x = x.at(offsets[0] + row * steps[0] + begin),
                          .residual = residual == nullptr ? nullptr : residual->at(offsets[1] + row * steps[1] + begin),
                          .weight = weight == nullptr ? nullptr : weight->at(begin),
                          .bias = bias == nullptr ? nullptr : bias->at(begin),
                          .out = out.at(offsets[2] + row * steps[2] + begin),
                          .scratch = scratch.as<std::byte>() + begin * compute_size,
                          .n = std::min(row_part, n - begin)};
        };
        if (x.dtype == DType::float64)
          normalize_divided<double>(kernel.passes, part, n, x.dtype, eps, threads);
        else
          normalize_divided<float>(kernel.passes, part, n, x.dtype, eps, threads);
      }
    });
    return;
  }
  // Norms are bound by memory: where rows come from beyond the second-level cache, all but short ones go one by one, so
  // that reading a row overlaps with writing the one before it (4096x768: 560 us instead of 680); from within it, pairs
  // hide the ends of the sums (128x768: 13 us instead of 16).
  constexpr std::int64_t near_bytes = std::int64_t{1} << 20;
  const std::int64_t group_elements = rows * n * dtype_size(x.dtype) <= near_bytes ? 2048 : 1024;
  const bool streamed = worth_streaming(out, out.rank() - 1, {&x, residual});
  const std::int64_t block = rows_per_task(rows, n, threads);
  const RowVector near_weight(weight, rows), near_bias(bias, rows);
  parallel_for((rows + block - 1) / block, threads, [&](std::int64_t task) {
    const Scratch scratch(staged ? row_scratch(n) * compute_size : 0);
    const std::int64_t begin = task * block;
    walk.for_each_run(begin, std::min(begin + block, rows), [&](const auto& offsets, const auto& steps, auto count) {
      kernel.rows({.x = x.at(offsets[0]),
                   .residual = residual == nullptr ? nullptr : residual->at(offsets[1]),
                   .weight = near_weight.data(),
                   .bias = near_bias.data(),
                   .out = out.at(offsets[2]),
                   .scratch = scratch.as<void>(),
                   .x_stride = steps[0],
                   .residual_stride = steps[1],
                   .out_stride = steps[2],
                   .rows = count,
                   .n = n,
                   .group_elements = group_elements,
                   .eps = eps,
                   .streamed = streamed});
    });
  });
}

}  // namespace

void check_normalization(const std::string& operation, const TensorView& x, const TensorView* weight,
                         const TensorView* bias, double eps, const TensorView* residual) {
  if (x.rank() == 0) throw std::invalid_argument(operation + ": x must have at least one axis, got shape ()");
  check_row(operation, "weight", weight, x);
  check_row(operation, "bias", bias, x);
  if (!(eps >= 0.0))
    throw std::invalid_argument(operation + ": eps must not be negative or NaN, got " + std::to_string(eps));
  if (residual == nullptr) return;
  broadcast_strides(residual->shape, residual->strides, x.shape, operation + ": residual");
  if (residual->rank() == 0 || residual->shape.from_end(1) != x.shape.from_end(1))
    throw std::invalid_argument(operation + ": residual must have the last axis of x, which has shape " +
                                x.shape.to_string() + ", got " + residual->shape.to_string());
}

void layer_norm(const TensorView& x, const TensorView* weight, const TensorView* bias, double eps,
                const TensorView* residual, const TensorView& out) {
  normalize("layer_norm", kernels().normalization->layer_norm[static_cast<std::size_t>(x.dtype)], x, weight, bias, eps,
            residual, out);
}

void rms_norm(const TensorView& x, const TensorView* weight, double eps, const TensorView* residual,
              const TensorView& out) {
  normalize("rms_norm", kernels().normalization->rms_norm[static_cast<std::size_t>(x.dtype)], x, weight, nullptr, eps,
            residual, out);
}

}  // namespace attnlib
