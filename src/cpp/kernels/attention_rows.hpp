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

#if defined(ATTNLIB_DOT_BFLOAT16)
// 2^x, x up to 8, to be cut to bfloat16: relative error 2^-12 before that, and rounding adds 2^-9. The
// mantissa, 1 to 2 before it is scaled, comes with half of bfloat16's last digit, so that cutting rounds. Exactly 1 at
// 0 and 0 at -inf; NaN stays NaN. Fitted by tools/fit_polynomials.py.
ATTNLIB_INLINE vec<float> exp2_to_be_cut(vec<float> x) {
  constexpr float fit[] = {0x1.630fa37397a59p-1f, 0x1.df168379660cbp-3f, 0x1.27606132a69c8p-4f};
  const vec<float> rest = above_whole(x);
  return scale_by_power(fma(rest, polynomial(fit, rest), broadcast<float>(1.0f + 0x1p-8f)), x);
}
#endif

// Entries that lie `stride` apart, into a dense buffer; out of line, since callers are unrolled and this is rare.
template <class T>
__attribute__((noinline)) void copy_strided(const T* from, std::int64_t stride, int count, T* entries) {
  for (int i = 0; i < count; ++i) entries[i] = from[i * stride];
}

// `count` entries of a row of a bias (or flags of a mask) that lie `stride` apart; zeros (or false) after them.
template <class T, class C = compute_type<T>>
ATTNLIB_INLINE vec<C> load_strided(const T* row, std::int64_t stride, int count) {
  if (stride == 1) return count == lanes<C> ? load(row) : load_partial(row, count);
  T entries[lanes<C>] = {};
  copy_strided(row, stride, count, entries);
  return load(entries);
}

template <class C>
ATTNLIB_INLINE mask_vec<C> load_strided_flags(const bool* row, std::int64_t stride, int count) {
  if (stride == 1 && count == lanes<C>) return load_flags<C>(row, lanes<C>);
  bool entries[lanes<C>] = {};
  copy_strided(row, stride, count, entries);
  return load_flags<C>(entries, lanes<C>);
}

// How rows end, a register of them. `sum` is that of the weights, `used` that of the weights as they were multiplied
// with the values (rounded to bfloat16, perhaps): divided by it, the output is a mean of the values. A sink is one more
// term of both.
template <class C>
struct RowsEnd {
  vec<C> out_factor, weight_factor;  // what accumulated values, and weights, are multiplied by
  vec<C> maximum, sum;               // with the sink; the sum is 0 where nothing was seen
};

template <class C>
ATTNLIB_INLINE RowsEnd<C> end_rows(const AttentionTask& task, const std::int64_t* heads, int rows, vec<C> maximum,
                                   vec<C> sum, vec<C> used) {
  const mask_vec<C> nothing_seen = (maximum == broadcast<C>(negative_infinity<C>)) & (used == zero<C>());
  vec<C> factor = broadcast<C>(C{1});  // from the maximum of the keys to the one that includes the sink
  if (task.sinks != nullptr) {
    vec<C> sink{};
    for (int row = 0; row < rows && row < lanes<C>; ++row)
      sink[row] = static_cast<const C*>(task.sinks)[heads[row]] * static_cast<C>(log2_e);
    const vec<C> joined = max(sink, maximum);
    factor = exp2_nonpositive(maximum - joined);
    const vec<C> weight = exp2_nonpositive(sink - joined);
    sum = fma(sum, factor, weight);
    used = fma(used, factor, weight);
    maximum = joined;
  }
  const vec<C> none = zero<C>();
  return {nothing_seen ? none : factor / used, nothing_seen ? none : factor / sum, maximum, nothing_seen ? none : sum};
}

// The log-sum-exp of a row that ended so.
template <class C>
ATTNLIB_INLINE C log_sum(C maximum, C sum) {
  if (sum == C{0}) return negative_infinity<C>;
  return static_cast<C>(static_cast<double>(maximum) * ln_2 + __builtin_log(static_cast<double>(sum)));
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
