// How attention is cut into pieces: (sequence, key/value head, a few tiles of rows), or, where few rows meet many keys,
// (sequence, key/value head, chunks of keys). Shared by the rectangular and the packed form, whose kernels are the
// same.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "attnlib/attention.hpp"
#include "isa/dispatch.hpp"
#include "runtime/dispatch_record.hpp"
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

// A single query, or a few rows against many keys, are decoded (kernels/attention_decode.hpp); everything else is done
// in tiles. The line depends on the sequence's own shape alone, and a sequence that attends to itself is never beyond
// it: one query with one key is in tiles as well, however much padding comes after it.
inline bool is_decoded(std::int64_t heads_per_group, const SequenceLengths& length) {
  const std::int64_t least_keys = length.queries == 1 ? 2 : decode_least_keys;
  return length.queries * heads_per_group <= decode_rows && length.keys >= least_keys;
}

// One piece of work: some tiles of rows, or some or all chunks of the keys of a sequence that is decoded.
struct AttentionPiece {
  std::int64_t sequence, group;
  std::int64_t first;  // row, or chunk
  std::int64_t count;  // rows, or chunks
  std::int64_t split;  // the decoded sequence and head whose chunks several pieces share, or -1
  double work;         // keys seen by all rows together: what the pieces are ordered by
};

// Decoded sequences whose chunks are shared by several pieces: where their partial results lie, and how many pieces
// are still at work; who ends last joins them.
struct SharedChunks {
  std::int64_t partials;  // offset in bytes
  std::atomic<std::int64_t> pieces_left;
};

template <class Lengths, class Fill>
class AttentionRun {
 public:
  AttentionRun(const AttentionCall& call, std::int64_t sequences, Lengths& lengths, Fill& fill)
      : call_(call), sequences_(sequences), lengths_(lengths), fill_(fill) {}

  void run() {
    choose_sizes();
    for (std::int64_t n = 0; n < sequences_; ++n) cut(n);
    // Long ones first, so that threads end together.
    const auto longer = [](const AttentionPiece& a, const AttentionPiece& b) { return a.work > b.work; };
    if (!std::is_sorted(pieces_.begin(), pieces_.end(), longer))
      std::stable_sort(pieces_.begin(), pieces_.end(), longer);
    const Scratch partials(partial_bytes_);
    partials_ = partials.template as<std::byte>();
    shared_ = std::make_unique<SharedChunks[]>(splits_.size());
    for (std::size_t i = 0; i < splits_.size(); ++i) {
      shared_[i].partials = splits_[i].partials;
      shared_[i].pieces_left.store(splits_[i].pieces, std::memory_order_relaxed);
    }
    const bool alike = pieces_.empty() || pieces_.front().work == pieces_.back().work;
    neighbours_follow_ = alike || threads_ == 1;
    parallel_for(
        static_cast<std::int64_t>(pieces_.size()), threads_,
        [&](std::int64_t index) { attend(static_cast<std::size_t>(index)); },
        alike ? TaskOrder::shares : TaskOrder::in_turn);
  }

 private:
  struct Split {
    std::int64_t partials, pieces;
  };

  void choose_sizes() {
    double work = 0.0;
    std::int64_t all_tiles = 0, decoded = 0;
    for (std::int64_t n = 0; n < sequences_; ++n) {
      const SequenceLengths length = lengths_(n);
      const std::int64_t rows = length.queries * call_.heads;
      if (is_decoded(call_.heads, length))
        decoded += call_.groups;
      else
        all_tiles += (rows + tile_rows_ - 1) / tile_rows_ * call_.groups;
      work += static_cast<double>(rows) * static_cast<double>(length.keys + 1);
    }
    threads_ = threads_for(work * static_cast<double>(call_.groups) *
                           static_cast<double>(call_.head_size + call_.value_size + 8) * 0.02);
    // Few tiles are spread over the threads; many walk the keys together.
    std::int64_t tiles_per_task = attention_tiles_per_task;
    while (tiles_per_task > 1 && all_tiles / tiles_per_task < 4 * threads_) tiles_per_task /= 2;
    rows_per_task_ = tiles_per_task * tile_rows_;
    splits_chunks_ = threads_ > 1 && decoded < 8 * threads_;

    constexpr const char* kernel_names[] = {"float32", "float64", "float16 widened", "bfloat16 widened"};
    const bool dot = call_.dtype == DType::bfloat16 && kernels().matmul->has_bfloat16_dot;
    DispatchRecord& record = dispatch_record();
    record.kernel = unit_decodes_ || (unit_ != nullptr && all_tiles > 0) ? "bfloat16 matrix unit"
                    : dot                                                ? "bfloat16 dot product"
                                                                         : kernel_names[dtype_];
    record.plan = decoded == 0     ? "tiles of queries"
                  : all_tiles == 0 ? "decoding: few queries, keys in chunks"
                                   : "decoding where queries are few, tiles of queries elsewhere";
  }

  void cut(std::int64_t n) {
    const SequenceLengths length = lengths_(n);
    const std::int64_t rows = length.queries * call_.heads;
    if (rows == 0) return;
    if (is_decoded(call_.heads, length)) {
      const std::int64_t chunks = (length.keys + decode_chunk - 1) / decode_chunk;
      const std::int64_t per_piece = splits_chunks_ ? 1 : chunks;
      const double work = static_cast<double>(rows) * static_cast<double>(length.keys) *
                          static_cast<double>(per_piece) / static_cast<double>(chunks);
      for (std::int64_t group = 0; group < call_.groups; ++group) {
        std::int64_t split = -1;
        if (per_piece < chunks) {
          split = static_cast<std::int64_t>(splits_.size());
          splits_.push_back({partial_bytes_, chunks});
          partial_bytes_ += chunks * decode_.partial_bytes[dtype_](rows, call_.value_size);
        }
        for (std::int64_t chunk = 0; chunk < chunks; chunk += per_piece)
          pieces_.push_back({n, group, chunk, per_piece, split, work});
      }
      return;
    }
    AttentionTask task = call_.common;
    task.keys = length.keys;
    fill_(task, n, 0);
    const std::int64_t blocks = (rows + rows_per_task_ - 1) / rows_per_task_;
    for (std::int64_t group = 0; group < call_.groups; ++group) {
      // The last rows see the most keys when attention is causal.
      for (std::int64_t block = blocks - 1; block >= 0; --block) {
        const std::int64_t first = block * rows_per_task_, count = std::min(rows_per_task_, rows - first);
        const std::int64_t low = std::max<std::int64_t>(first / call_.heads + task.left_offset, 0);
        const std::int64_t high = std::min((first + count - 1) / call_.heads + task.right_offset + 1, length.keys);
        pieces_.push_back({n, group, first, count, -1,
                           static_cast<double>(count) * static_cast<double>(std::max<std::int64_t>(high - low, 0))});
      }
    }
  }

  void attend(std::size_t index) {
    const AttentionPiece& piece = pieces_[index];
    const SequenceLengths length = lengths_(piece.sequence);
    AttentionTask task = call_.common;
    task.keys = length.keys;
    fill_(task, piece.sequence, piece.group);
    if (!is_decoded(call_.heads, length)) {
      const Scratch scratch(scratch_bytes_(call_.head_size, call_.value_size));
      task.scratch = scratch.as<void>();
      task.first_row = piece.first;
      task.rows = piece.count;
      AttentionTask next;
      if (neighbours_follow_ && index + 1 < pieces_.size() && next_in_tiles(pieces_[index + 1], next))
        task.next = &next;
      attend_(&task);
      return;
    }
    task.first_row = 0;
    task.rows = length.queries * call_.heads;
    const Scratch scratch(decode_.scratch_bytes[dtype_](task.rows, call_.head_size, call_.value_size));
    task.scratch = scratch.as<void>();
    if (piece.split < 0) {
      decode_.attend[dtype_](&task);
      return;
    }
    SharedChunks& shared = shared_[static_cast<std::size_t>(piece.split)];
    void* const partials = partials_ + shared.partials;
    decode_.attend_chunk[dtype_](&task, piece.first, partials);
    if (shared.pieces_left.fetch_sub(1, std::memory_order_acq_rel) == 1) decode_.join_chunks[dtype_](&task, partials);
  }

  // What comes next, unless that is decoded.
  bool next_in_tiles(const AttentionPiece& piece, AttentionTask& next) {
    const SequenceLengths length = lengths_(piece.sequence);
    if (is_decoded(call_.heads, length)) return false;
    next = call_.common;
    next.keys = length.keys;
    fill_(next, piece.sequence, piece.group);
    next.first_row = piece.first;
    next.rows = piece.count;
    return true;
  }

  const AttentionKernels& table_ = *kernels().attention;
  const AttentionCall& call_;
  const int dtype_ = static_cast<int>(call_.dtype);
  const MatrixUnitKernels* const unit_ = call_.dtype == DType::bfloat16 ? kernels().matrix_unit : nullptr;
  const bool unit_decodes_ =
      unit_ != nullptr && call_.head_size % unit_->decode_step == 0 && call_.value_size % unit_->decode_step == 0;
  const AttentionDecodeKernels& decode_ = unit_decodes_ ? *unit_->attention_decode : *kernels().attention_decode;
  void (*const attend_)(const AttentionTask*) noexcept = unit_ != nullptr ? unit_->attend_bfloat16
                                                                          : table_.attend[dtype_];
  std::int64_t (*const scratch_bytes_)(std::int64_t, std::int64_t) noexcept = unit_ != nullptr
                                                                                  ? unit_->attention_scratch_bytes
                                                                                  : table_.scratch_bytes[dtype_];
  const std::int64_t tile_rows_ = table_.tile_rows[call_.dtype == DType::float64 ? 1 : 0];
  const std::int64_t sequences_;
  Lengths& lengths_;
  Fill& fill_;
  int threads_ = 1;
  std::int64_t rows_per_task_ = 0;
  bool splits_chunks_ = false;
  bool neighbours_follow_ = false;  // a thread's next piece is the one after
  std::int64_t partial_bytes_ = 0;
  std::byte* partials_ = nullptr;
  std::vector<AttentionPiece> pieces_;
  std::vector<Split> splits_;
  std::unique_ptr<SharedChunks[]> shared_;
};

// lengths(sequence) gives its extents, fill(task, sequence, group) the pointers, strides and positions.
template <class Lengths, class Fill>
void run_attention(const AttentionCall& call, std::int64_t sequences, Lengths&& lengths, Fill&& fill) {
  AttentionRun<std::remove_reference_t<Lengths>, std::remove_reference_t<Fill>>(call, sequences, lengths, fill).run();
}

}  // namespace attnlib
