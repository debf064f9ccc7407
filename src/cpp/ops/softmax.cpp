#include "attnlib/softmax.hpp"

#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa/dispatch.hpp"
#include "kernels/row_parts.hpp"
#include "ops/row_walk.hpp"
#include "ops/streaming.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

// `strides` (or a shape) with the axis of the softmax last.
Shape moved_last(const Shape& shape, int axis) {
  Shape moved;
  for (int other = 0; other < shape.rank(); ++other)
    if (other != axis) moved.push_back(shape[other]);
  moved.push_back(shape[axis]);
  return moved;
}

// Where an element of a block of rows lies: elements from a row to the next, and along a row.
struct Steps {
  std::int64_t row, element;
};

template <class Word>
void copy_words(const void* source, Steps from, void* target, Steps to, std::int64_t rows, std::int64_t n) {
  const Word* read = static_cast<const Word*>(source);
  Word* write = static_cast<Word*>(target);
  // Rows innermost: where the axis of the softmax is not the last one, neighbours in memory belong to different rows.
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t row = 0; row < rows; ++row)
      write[row * to.row + i * to.element] = read[row * from.row + i * from.element];
}

void copy_rows(const void* source, Steps from, void* target, Steps to, std::int64_t rows, std::int64_t n,
               std::int64_t element_size) {
  switch (element_size) {
    case 1:
      return copy_words<std::uint8_t>(source, from, target, to, rows, n);
    case 2:
      return copy_words<std::uint16_t>(source, from, target, to, rows, n);
    case 4:
      return copy_words<std::uint32_t>(source, from, target, to, rows, n);
    default:
      return copy_words<std::uint64_t>(source, from, target, to, rows, n);
  }
}

// One call's arrays with the axis of the softmax last: 0 is x, 1 is out, 2 is the mask.
struct Call {
  SoftmaxKernel kernel;
  TensorView x, out;
  const bool* mask;
  std::int64_t n;
  std::int64_t x_step, out_step, mask_step;
  bool streamed;

  std::int64_t element_size() const { return dtype_size(x.dtype); }
  std::int64_t scratch_bytes(std::int64_t elements) const {
    return element_size() == 2 ? elements * 4 : streamed ? elements * element_size() : 0;
  }
  bool in_place() const { return x_step == 1 && out_step == 1 && (mask_step == 0 || mask_step == 1); }

  using Offsets = RowWalk<3>::Offsets;

  void run_in_place(const Offsets& offsets, const Offsets& steps, std::int64_t rows, void* scratch) const {
    kernel.rows({.x = x.at(offsets[0]),
                 .out = out.at(offsets[1]),
                 .mask = mask == nullptr ? nullptr : mask + offsets[2],
                 .scratch = scratch,
                 .x_stride = steps[0],
                 .out_stride = steps[1],
                 .mask_stride = steps[2],
                 .mask_step = mask_step,
                 .rows = rows,
                 .n = n,
                 .streamed = streamed});
  }

  // One long row, its parts dealt out to threads: pass by pass, and the parts' results joined in their order.
  void run_divided(const Offsets& offsets, int threads, void* scratch) const {
    const bool* flags = mask == nullptr ? nullptr : mask + offsets[2];
    if (flags != nullptr && mask_step == 0) {
      if (!*flags) {
        std::memset(out.at(offsets[1]), 0, static_cast<std::size_t>(n * element_size()));
        return;
      }
      flags = nullptr;
    }
    const auto part = [&](std::int64_t index) {
      const std::int64_t begin = index * row_part;
      return SoftmaxPart{.x = x.at(offsets[0] + begin),
                         .out = out.at(offsets[1] + begin),
                         .mask = flags == nullptr ? nullptr : flags + begin,
                         .scratch = static_cast<float*>(scratch) + begin,
                         .n = std::min(row_part, n - begin),
                         .streamed = false};
    };
    const std::int64_t parts = (n + row_part - 1) / row_part;
    std::vector<double> results(static_cast<std::size_t>(parts));
    const auto result = [&](std::int64_t index) -> double& { return results[static_cast<std::size_t>(index)]; };
    parallel_for(parts, threads, [&](std::int64_t index) { result(index) = kernel.passes.maximum(part(index)); });
    double maximum = result(0);
    for (const double other : results) maximum = maximum > other ? maximum : other;
    parallel_for(parts, threads, [&](std::int64_t index) { result(index) = kernel.passes.sum(part(index), maximum); });
    const double sum = sum_parts(results, x.dtype);
    parallel_for(parts, threads, [&](std::int64_t index) { kernel.passes.finish(part(index), maximum, sum); });
  }

  static constexpr std::int64_t gathered_rows = 16;

  // Rows that are not contiguous: a few at a time are gathered into scratch memory, where the same kernel turns them,
  // so that the memory layout does not change a bit, and scattered from there.
  void run_gathered(const Offsets& offsets, const Offsets& steps, std::int64_t rows, void* scratch) const {
    // Two cache lines more than a row: rows a multiple of 4096 bytes apart would compete for the same cache sets.
    const Steps packed = {n + 128 / element_size(), 1};
    const Scratch values(gathered_rows * packed.row * element_size());
    const Scratch flags(mask == nullptr ? 0 : gathered_rows * packed.row);
    for (std::int64_t done = 0; done < rows; done += gathered_rows) {
      const std::int64_t count = std::min(gathered_rows, rows - done);
      copy_rows(x.at(offsets[0] + done * steps[0]), {steps[0], x_step}, values.as<void>(), packed, count, n,
                element_size());
      if (mask != nullptr)
        copy_rows(mask + offsets[2] + done * steps[2], {steps[2], mask_step}, flags.as<void>(), packed, count, n, 1);
      kernel.rows({.x = values.as<void>(),
                   .out = values.as<void>(),
                   .mask = mask == nullptr ? nullptr : flags.as<const bool>(),
                   .scratch = scratch,
                   .x_stride = packed.row,
                   .out_stride = packed.row,
                   .mask_stride = packed.row,
                   .mask_step = 1,
                   .rows = count,
                   .n = n,
                   .streamed = false});
      copy_rows(values.as<void>(), packed, out.at(offsets[1] + done * steps[1]), {steps[1], out_step}, count, n,
                element_size());
    }
  }
};

void run(const char* operation, const SoftmaxKernel& kernel, const TensorView& x, int axis, const BoolView* mask,
         const TensorView& out) {
  check_softmax(operation, x, axis, mask);
  if (axis < 0) axis += x.rank();
  const Shape mask_strides =
      mask == nullptr ? x.strides : broadcast_strides(mask->shape, mask->strides, x.shape, operation);
  Call call = {
      .kernel = kernel,
      .x = x,
      .out = out,
      .mask = mask == nullptr ? nullptr : mask->data,
      .n = x.shape[axis],
      // An axis of one element may have any stride.
      .x_step = x.shape[axis] == 1 ? 1 : x.strides[axis],
      .out_step = x.shape[axis] == 1 ? 1 : out.strides[axis],
      .mask_step = mask == nullptr ? 1 : mask_strides[axis],
      .streamed = false,
  };
  const RowWalk<3> walk(moved_last(x.shape, axis),
                        {moved_last(x.strides, axis), moved_last(out.strides, axis), moved_last(mask_strides, axis)},
                        x.rank() - 1);
  const std::int64_t rows = walk.rows();
  if (rows == 0 || call.n == 0) return;
  constexpr double nanoseconds_per_element = 0.3;
  const int threads = threads_for(nanoseconds_per_element * static_cast<double>(rows) * static_cast<double>(call.n));
  if (call.in_place() && divides_rows(rows, call.n, threads)) {
    const Scratch scratch(call.scratch_bytes(call.n));
    walk.for_each_run(0, rows, [&](const auto& offsets, const auto& steps, std::int64_t count) {
      for (std::int64_t row = 0; row < count; ++row)
        call.run_divided({offsets[0] + row * steps[0], offsets[1] + row * steps[1], offsets[2] + row * steps[2]},
                         threads, scratch.as<void>());
    });
    return;
  }
  call.streamed = call.in_place() && worth_streaming(out, axis, {&x});
  const std::int64_t block = rows_per_task(rows, call.n, threads);
  parallel_for((rows + block - 1) / block, threads, [&](std::int64_t task) {
    const Scratch scratch(call.scratch_bytes(row_scratch(call.n)));
    const std::int64_t begin = task * block;
    walk.for_each_run(begin, std::min(begin + block, rows), [&](const auto& offsets, const auto& steps, auto count) {
      if (call.in_place())
        call.run_in_place(offsets, steps, count, scratch.as<void>());
      else
        call.run_gathered(offsets, steps, count, scratch.as<void>());
    });
  });
}

}  // namespace

void check_softmax(const std::string& operation, const TensorView& x, int axis, const BoolView* mask) {
  if (axis < -x.rank() || axis >= x.rank())
    throw std::invalid_argument(operation + ": axis " + std::to_string(axis) + " is out of range for x of shape " +
                                x.shape.to_string());
  if (mask != nullptr) broadcast_strides(mask->shape, mask->strides, x.shape, operation + ": mask");
}

void softmax(const TensorView& x, int axis, const BoolView* mask, const TensorView& out) {
  run("softmax", kernels().softmax->softmax[static_cast<std::size_t>(x.dtype)], x, axis, mask, out);
}

void log_softmax(const TensorView& x, int axis, const TensorView& out) {
  run("log_softmax", kernels().softmax->log_softmax[static_cast<std::size_t>(x.dtype)], x, axis, nullptr, out);
}

}  // namespace attnlib
