#include "kernels/attention.hpp"

#include "kernels/attention_scores.hpp"
#include "kernels/attention_tile.hpp"
#include "kernels/row_vectors.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// The keys from `begin` on that fall into one block, as the products want them.
template <class T>
struct KeyBlock {
  using Element = typename TileArithmetic<T>::Element;
  std::int64_t begin;
  int count;
  const Element* keys;
  std::int64_t key_stride;
  const Element* values;  // the stride is of A::together keys
  std::int64_t value_stride;
};

template <class T, class C = compute_type<T>>
KeyBlock<T> stage_block(const AttentionTask& task, const Workspace<C>& workspace, std::int64_t begin) {
  using A = TileArithmetic<T>;
  KeyBlock<T> block;
  block.begin = begin;
  block.count = static_cast<int>(task.keys - begin < A::key_block ? task.keys - begin : A::key_block);
  block.key_stride = task.key_stride;
  block.value_stride = task.value_stride;
  block.keys = A::stage_keys(static_cast<const T*>(task.key) + begin * task.key_stride, block.key_stride, block.count,
                             task.head_size, workspace.keys);
  block.values = A::stage_values(static_cast<const T*>(task.value) + begin * task.value_stride, block.value_stride,
                                 block.count, task.value_size, workspace.values);
  return block;
}

// One tile meets one block: scores of the keys that some row of the tile may see. What is left of them after removal,
// or nothing (first == last).
template <class T, class C = compute_type<T>>
KeyRange score_block(const AttentionTask& task, const Tile<C>& tile, const KeyBlock<T>& block,
                     const Workspace<C>& workspace) {
  using A = TileArithmetic<T>;
  const std::int64_t end = block.begin + block.count;
  const std::int64_t first = block.begin > tile.lowest ? block.begin : tile.lowest;
  const std::int64_t last = end < tile.highest ? end : tile.highest;
  if (first >= last) return {0, 0, false};
  const KeyRange range{static_cast<int>(first - block.begin), static_cast<int>(last - block.begin), false};
  const MaskCover cover = mask_cover(task, tile, first, range.last - range.first);
  if (cover == MaskCover::nothing) return {0, 0, false};
  multiply_scores<A>(block.keys + range.first * block.key_stride, block.key_stride, last - first, tile.query,
                     task.head_size, score_scale<C>(task), workspace.scores + range.first * tile_rows<C>);
  const bool unmodified =
      cover == MaskCover::everything && task.bias == nullptr && task.slopes == nullptr && task.softcap == 0.0;
  if (unmodified && first >= tile.all_see_from && last <= tile.all_see_to) return range;
  return modify_scores<T>(task, tile, block.begin, range, cover, workspace);
}

template <class T, class C = compute_type<T>>
void add_block(const AttentionTask& task, Tile<C>& tile, const KeyBlock<T>& block, const KeyRange& range,
               const Workspace<C>& workspace) {
  using A = TileArithmetic<T>;
  vec<C> corrections[tile_vectors];
  exponentiate<A>(workspace.scores, range, tile, corrections);
  const vec<C>* correction = tile.has_accumulated ? corrections : nullptr;
  tile.has_accumulated = true;
  const int first = range.first / A::together, last = (range.last + A::together - 1) / A::together;
  const auto* values = block.values + first * block.value_stride;
  // The weights lie where the scores of the range lay, pairs of them at half the distance from the block's begin.
  const C* weights = workspace.scores + first * tile_rows<C>;
  const bool all_seen = !range.has_removed && range.first % A::together == 0 && range.last % A::together == 0;
  if (all_seen || A::all_finite(values, block.value_stride, last - first, task.value_size))
    multiply_values<A>(values, block.value_stride, last - first, weights, task.value_size, correction,
                       tile.accumulated);
  else
    multiply_seen_values<A>(values, block.value_stride, last - first, weights, task.value_size, correction,
                            tile.accumulated);
}

template <class T>
void attend(const AttentionTask* arguments) noexcept {
  using C = compute_type<T>;
  const AttentionTask& task = *arguments;
  const Workspace<C> workspace = divide_scratch<T>(task);
  constexpr int key_block = TileArithmetic<T>::key_block;
  const int tiles = static_cast<int>((task.rows + tile_rows<C> - 1) / tile_rows<C>);
  Tile<C> tile[attention_tiles_per_task];
  std::int64_t lowest = task.keys, highest = 0;
  for (int index = 0; index < tiles; ++index) {
    begin_tile<T>(task, workspace, index, tile[index]);
    lowest = tile[index].lowest < lowest ? tile[index].lowest : lowest;
    highest = tile[index].highest > highest ? tile[index].highest : highest;
  }

  const std::int64_t first_block = lowest / key_block * key_block;
  for (std::int64_t begin = first_block; begin < highest; begin += key_block) {
    const KeyBlock<T> block = stage_block<T>(task, workspace, begin);
    for (int index = 0; index < tiles; ++index) {
      const KeyRange range = score_block<T>(task, tile[index], block, workspace);
      if (range.first < range.last) add_block<T>(task, tile[index], block, range, workspace);
    }
  }
  for (int index = 0; index < tiles; ++index) finish_tile<T>(task, tile[index]);

  if (task.weights == nullptr) return;
  // The weights need the final maximum and sum: the scores are made a second time.
  for (int index = 0; index < tiles; ++index) clear_weights<T>(task, tile[index]);
  for (std::int64_t begin = first_block; begin < highest; begin += key_block) {
    const KeyBlock<T> block = stage_block<T>(task, workspace, begin);
    for (int index = 0; index < tiles; ++index) {
      const KeyRange range = score_block<T>(task, tile[index], block, workspace);
      if (range.first < range.last) store_weights<T>(task, tile[index], begin, range, workspace);
    }
  }
}

// What the parts weigh in a register of rows that lie beside each other.
template <class C>
class PartWeights {
 public:
  PartWeights(const MergeTask& task, std::int64_t first, int count)
      : lses_(static_cast<const C*>(task.lses) + first), stride_(task.lse_part_stride), count_(count) {
    const vec<C> nothing = broadcast<C>(negative_infinity<C>);
    vec<C> maximum = nothing;  // a NaN may be lost: its exponential brings it back
    for (std::int64_t part = 0; part < task.parts; ++part) maximum = max(maximum, lse(part));
    reference_ = maximum == nothing ? zero<C>() : maximum;
    for (std::int64_t part = 0; part < task.parts; ++part) {
      const vec<C> weight = exp_of_difference<C>(lse(part), reference_);
      if (part < most_kept) kept_[part] = weight;
      sum_ += weight;
    }
  }
  // Beyond the parts that are kept, which are seldom more, computed anew for each row that asks.
  vec<C> operator[](std::int64_t part) const {
    return part < most_kept ? kept_[part] : exp_of_difference<C>(lse(part), reference_);
  }
  C sum(int row) const { return sum_[row]; }
  // Of all parts together.
  C log_sum(int row) const {
    if (sum_[row] == C{0}) return negative_infinity<C>;
    return static_cast<C>(static_cast<double>(reference_[row]) + __builtin_log(static_cast<double>(sum_[row])));
  }

 private:
  static constexpr int most_kept = 64;
  vec<C> lse(std::int64_t part) const { return load_lanes(lses_ + part * stride_, count_); }

  const C* lses_;
  std::int64_t stride_;
  int count_;
  vec<C> reference_, sum_ = zero<C>(), kept_[most_kept];
};

template <class T, class C = compute_type<T>>
void merge_row(const MergeTask& task, std::int64_t row, const PartWeights<C>& weights, int lane) {
  // Columns by the chunk, so that the sums stay close and each part's weight is asked for once for many of them.
  constexpr std::int64_t chunk = 256;
  for (std::int64_t first = 0; first < task.width; first += chunk) {
    const std::int64_t count = task.width - first < chunk ? task.width - first : chunk;
    alignas(vector_bytes) C total[chunk] = {};
    for (std::int64_t part = 0; part < task.parts; ++part) {
      const C weight = weights[part][lane];
      if (weight == C{0}) continue;  // a part that saw no key: whatever it holds does not count
      const T* from = static_cast<const T*>(task.outs) + part * task.out_part_stride + row * task.width + first;
      const vec<C> factor = broadcast<C>(weight / weights.sum(lane));
      for_each_vector<C>(count, [&](std::int64_t d, int lanes_left, int) __attribute__((always_inline)) {
        store(total + d, fma(load_lanes(from + d, lanes_left), factor, load(total + d)));
      });
    }
    T* out = static_cast<T*>(task.out) + row * task.width + first;
    for_each_vector<C>(count, [&](std::int64_t d, int lanes_left, int) __attribute__((always_inline)) {
      store_lanes(out + d, load(total + d), lanes_left);
    });
  }
}

template <class T>
void merge(const MergeTask* arguments) noexcept {
  using C = compute_type<T>;
  const MergeTask& task = *arguments;
  for (std::int64_t first = 0; first < task.rows; first += lanes<C>) {
    const int count = task.rows - first < lanes<C> ? static_cast<int>(task.rows - first) : lanes<C>;
    const PartWeights<C> weights(task, first, count);
    for (int lane = 0; lane < count; ++lane) {
      static_cast<C*>(task.lse)[first + lane] = weights.log_sum(lane);
      merge_row<T>(task, first + lane, weights, lane);
    }
  }
}

template <class T>
std::int64_t scratch_bytes(std::int64_t head_size, std::int64_t value_size) noexcept {
  return scratch_elements<T>(head_size, value_size) * static_cast<std::int64_t>(sizeof(compute_type<T>));
}

}  // namespace

extern const AttentionKernels attention_kernels;
constinit const AttentionKernels attention_kernels = {
    .tile_rows = {tile_rows<float>, tile_rows<double>},
    .attend = {attend<float>, attend<double>, attend<float16>, attend<bfloat16>},
    .merge = {merge<float>, merge<double>, merge<float16>, merge<bfloat16>},
    .scratch_bytes = {scratch_bytes<float>, scratch_bytes<double>, scratch_bytes<float16>, scratch_bytes<bfloat16>},
};

}  // namespace attnlib::ATTNLIB_ISA
