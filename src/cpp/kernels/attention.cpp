#include "kernels/attention.hpp"

#include "kernels/attention_blocks.hpp"
#include "kernels/row_vectors.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

template <class T>
void attend(const AttentionTask* task) noexcept {
  attend_in_tiles<T>(*task);
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
