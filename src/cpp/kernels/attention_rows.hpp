// What both plans of attention, tiles (kernels/attention.hpp) and decoding (kernels/attention_decode.hpp), ask of a row
// of scores: which keys it may see, what becomes of a score before the softmax, and how the row ends.
#pragma once

#include "kernels/attention.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr double log2_e = 1.4426950408889634;
constexpr double ln_2 = 0.6931471805599453;

template <class C>
inline constexpr C negative_infinity = static_cast<C>(-__builtin_inf());

// The keys [low, high) that the query's causal edge, window and length let it see; 0 and 0 for none.
struct SeenKeys {
  std::int64_t low, high;
};

ATTNLIB_INLINE SeenKeys seen_keys(const AttentionTask& task, std::int64_t query) {
  std::int64_t low = query + task.left_offset, high = query + task.right_offset + 1;
  low = low > 0 ? low : 0;
  high = high < task.keys ? high : task.keys;
  return low < high ? SeenKeys{low, high} : SeenKeys{0, 0};
}

// What query . key is multiplied by: to units of log2; with a soft cap the scores are first divided by it, and log2 e
// then comes with the cap.
template <class C>
ATTNLIB_INLINE C score_scale(const AttentionTask& task) {
  return static_cast<C>(task.softcap == 0.0 ? task.scale * log2_e : task.scale / task.softcap);
}

// Soft cap, bias (unscaled), ALiBi (slope in units of log2, distance = position(i) - j) and removal. `seen` comes with
// what edges and mask allow, and leaves without what a bias of -inf removes; a removed score is -inf whatever it was.
template <class C>
ATTNLIB_INLINE vec<C> modify_score(const AttentionTask& task, vec<C> score, vec<C> bias, vec<C> slope, vec<C> distance,
                                   mask_vec<C>& seen) {
  if (task.softcap != 0.0) score = tanh(score) * broadcast<C>(static_cast<C>(task.softcap * log2_e));
  if (task.bias != nullptr) {
    score = fma(bias, broadcast<C>(static_cast<C>(log2_e)), score);
    seen = seen & (bias != broadcast<C>(negative_infinity<C>));
  }
  if (task.slopes != nullptr) score = score - slope * abs<C>(distance);
  return seen ? score : broadcast<C>(negative_infinity<C>);
}

// `count` entries of a row of a bias (or flags of a mask) that lie `stride` apart; zeros (or false) after them.
template <class T, class C = compute_type<T>>
ATTNLIB_INLINE vec<C> load_strided(const T* row, std::int64_t stride, int count) {
  if (stride == 1) return count == lanes<C> ? load(row) : load_partial(row, count);
  T entries[lanes<C>] = {};
  for (int i = 0; i < count; ++i) entries[i] = row[i * stride];
  return load(entries);
}

template <class C>
ATTNLIB_INLINE mask_vec<C> load_strided_flags(const bool* row, std::int64_t stride, int count) {
  if (stride == 1) return load_flags<C>(row, count);
  bool entries[lanes<C>] = {};
  for (int i = 0; i < count; ++i) entries[i] = row[i * stride];
  return load_flags<C>(entries, lanes<C>);
}

// How a row ends. `sum` is that of the weights, `used` that of the weights as they were multiplied with the values
// (rounded to bfloat16, perhaps): divided by it, the output is a mean of the values. A sink is one more term of both.
template <class C>
struct RowEnd {
  C out_factor, weight_factor;  // what accumulated values, and weights, are multiplied by
  C lse;
};

template <class C>
ATTNLIB_INLINE RowEnd<C> end_row(const AttentionTask& task, std::int64_t head, C maximum, C sum, C used) {
  if (maximum == negative_infinity<C> && sum == C{0}) return {C{0}, C{0}, negative_infinity<C>};
  C factor = 1;  // from the maximum of the keys to the one that includes the sink
  C sink_weight = 0;
  if (task.sinks != nullptr) {
    const C sink = static_cast<const C*>(task.sinks)[head] * static_cast<C>(log2_e);
    const C joined = sink > maximum ? sink : maximum;
    factor = static_cast<C>(__builtin_exp2(static_cast<double>(maximum - joined)));
    sink_weight = static_cast<C>(__builtin_exp2(static_cast<double>(sink - joined)));
    maximum = joined;
  }
  const C total = sum * factor + sink_weight;
  return {factor / (used * factor + sink_weight), factor / total,
          static_cast<C>(static_cast<double>(maximum) * ln_2 + __builtin_log(static_cast<double>(total)))};
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
