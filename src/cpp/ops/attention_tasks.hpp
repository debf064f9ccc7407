// How attention is cut into tasks: (sequence, key/value head, a few tiles of rows). Shared by the rectangular and the
// packed form, whose kernels are the same.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "attnlib/attention.hpp"
#include "isa/dispatch.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {

// What is the same for all sequences.
struct AttentionCall {
  DType dtype;
  std::int64_t groups, heads;  // key/value heads, and query heads for each of them
  std::int64_t head_size, value_size;
  AttentionTask common;  // everything that no sequence and no head changes
};

struct SequenceLengths {
  std::int64_t queries, keys;
};

inline AttentionCall begin_attention(const char* operation, DType dtype, std::int64_t query_heads, std::int64_t groups,
                                     std::int64_t head_size, std::int64_t value_size, const AttentionOptions& options) {
  const auto refuse = [&](const std::string& text) {
    throw std::invalid_argument(std::string(operation) + ": " + text);
  };
  AttentionCall call{};
  call.dtype = dtype;
  call.groups = groups;
  call.heads = groups == 0 ? 0 : query_heads / groups;
  call.head_size = head_size;
  call.value_size = value_size;
  AttentionTask& task = call.common;
  task.heads = call.heads;
  task.head_size = head_size;
  task.value_size = value_size;
  task.scale = options.scale.value_or(head_size == 0 ? 1.0 : 1.0 / __builtin_sqrt(static_cast<double>(head_size)));
  if (!__builtin_isfinite(task.scale)) refuse("scale must be finite, got " + std::to_string(task.scale));
  task.softcap = options.softcap.value_or(0.0);
  if (options.softcap && !(*options.softcap > 0.0 && __builtin_isfinite(*options.softcap)))
    refuse("softcap must be positive and finite, got " + std::to_string(*options.softcap));
  for (const auto& side : {options.window_left, options.window_right})
    if (side && *side < 0) refuse("window sides must be None or at least 0, got " + std::to_string(*side));
  const auto per_head = [&](const TensorView* view, const char* name) -> const void* {
    if (view == nullptr) return nullptr;
    if (!(view->shape == Shape{query_heads}))
      refuse(std::string(name) + " must be (H,) = (" + std::to_string(query_heads) + ",), got shape " +
             view->shape.to_string());
    return view->data;
  };
  task.slopes = per_head(options.alibi_slopes, "alibi_slopes");
  task.sinks = per_head(options.sinks, "sinks");
  return call;
}

// Farther than any key, and so near that adding an index cannot overflow.
inline constexpr std::int64_t far_away = std::numeric_limits<std::int64_t>::max() / 8;

inline std::int64_t limited_sum(std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return b > 0 ? far_away : -far_away;
  return std::clamp(sum, -far_away, far_away);
}

// Where the queries of a sequence stand, and what that lets them see.
inline void set_positions(AttentionTask& task, std::int64_t query_offset, const AttentionOptions& options) {
  task.query_offset = limited_sum(query_offset, 0);
  task.left_offset = options.window_left ? limited_sum(query_offset, -*options.window_left) : -far_away;
  task.right_offset = options.causal         ? task.query_offset
                      : options.window_right ? limited_sum(query_offset, *options.window_right)
                                             : far_away;
}

// lengths(sequence) gives its extents, fill(task, sequence, group) the pointers, strides and positions; a task then
// does rows first_row .. first_row + rows - 1 of that group.
template <class Lengths, class Fill>
void run_attention(const AttentionCall& call, std::int64_t sequences, Lengths&& lengths, Fill&& fill) {
  const AttentionKernels& table = *kernels().attention;
  const std::int64_t tile_rows = table.tile_rows[call.dtype == DType::float64 ? 1 : 0];

  double work = 0.0;
  std::int64_t all_tiles = 0;
  for (std::int64_t n = 0; n < sequences; ++n) {
    const SequenceLengths length = lengths(n);
    const std::int64_t rows = length.queries * call.heads;
    all_tiles += (rows + tile_rows - 1) / tile_rows * call.groups;
    work += static_cast<double>(rows) * static_cast<double>(length.keys + 1);
  }
  const double nanoseconds =
      work * static_cast<double>(call.groups) * static_cast<double>(call.head_size + call.value_size + 8) * 0.02;
  const int threads = threads_for(nanoseconds);

  // Few tiles are spread over the threads; many walk the keys four at a time.
  std::int64_t tiles_per_task = attention_tiles_per_task;
  while (tiles_per_task > 1 && all_tiles / tiles_per_task < 4 * threads) tiles_per_task /= 2;
  const std::int64_t rows_per_task = tiles_per_task * tile_rows;

  std::vector<std::int64_t> first_task(static_cast<std::size_t>(sequences) + 1, 0);
  for (std::int64_t n = 0; n < sequences; ++n) {
    const std::int64_t rows = lengths(n).queries * call.heads;
    first_task[static_cast<std::size_t>(n) + 1] =
        first_task[static_cast<std::size_t>(n)] + (rows + rows_per_task - 1) / rows_per_task * call.groups;
  }
  const auto attend = table.attend[static_cast<int>(call.dtype)];
  const std::int64_t scratch_bytes = table.scratch_bytes[static_cast<int>(call.dtype)](call.head_size, call.value_size);
  parallel_for(first_task.back(), threads, [&](std::int64_t index) {
    const auto after = std::upper_bound(first_task.begin(), first_task.end(), index);
    const std::int64_t sequence = after - first_task.begin() - 1;
    const SequenceLengths length = lengths(sequence);
    const std::int64_t rows = length.queries * call.heads;
    const std::int64_t blocks = (rows + rows_per_task - 1) / rows_per_task;
    const std::int64_t within = index - first_task[static_cast<std::size_t>(sequence)];
    const Scratch scratch(scratch_bytes);
    AttentionTask task = call.common;
    task.keys = length.keys;
    task.scratch = scratch.as<void>();
    fill(task, sequence, within / blocks);
    // The last rows see the most keys when attention is causal: long tasks first, so that threads end together.
    task.first_row = (blocks - 1 - within % blocks) * rows_per_task;
    task.rows = std::min(rows_per_task, rows - task.first_row);
    attend(&task);
  });
}

}  // namespace attnlib
