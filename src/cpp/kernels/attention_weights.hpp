// Scores become weights of bfloat16, in pairs: so the exponential is no more exact than their rounding wants, and a
// row's reference stays until a score is far above it. Half of the vector slots of float32's exponentiate(), beside
// products that are twice as fast (Zen 4), or with a matrix unit take no slots at all.
#pragma once

#include "kernels/attention_scores.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// How far a score may be above its row's reference, in units of log2: weights of 2^8 are as exact as those below 1.
constexpr float most_above = 8.0f;

// The largest score of keys [first, last) in each row.
ATTNLIB_INLINE void largest_scores(const float* scores, int first, int last, vec<float> (&largest)[tile_vectors]) {
  constexpr int chains = 2;
  vec<float> seen[chains][tile_vectors];
  for (int i = 0; i < chains; ++i)
    for (int v = 0; v < tile_vectors; ++v) seen[i][v] = broadcast<float>(negative_infinity<float>);
  int key = first;
#pragma GCC unroll 2
  for (; key + chains <= last; key += chains)
    for (int i = 0; i < chains; ++i)
      for (int v = 0; v < tile_vectors; ++v)
        seen[i][v] = max(seen[i][v], load(scores + (key + i) * tile_rows<float> + v * lanes<float>));
  for (int v = 0; v < tile_vectors; ++v) {
    if (key < last) seen[0][v] = max(seen[0][v], load(scores + key * tile_rows<float> + v * lanes<float>));
    largest[v] = max(seen[0][v], seen[1][v]);
  }
}

// Pairs of scores -> pairs of weights, at half the distance from the block's begin. `used` is their sum, if the
// products do not see to it. The sum of weights that nobody rounded, if it is wanted, is as exact as everywhere.
template <bool Sums>
ATTNLIB_INLINE void weigh(float* scores, int begin, int end, vec<float> factor,
                          const vec<float> (&reference)[tile_vectors], vec<float> (&sum)[tile_vectors],
                          vec<float> (&used)[tile_vectors]) {
  using A = TileArithmetic<bfloat16>;
#pragma GCC unroll 2
  for (int key = begin; key < end; key += 2) {
#pragma GCC unroll 2
    for (int v = 0; v < tile_vectors; ++v) {
      float* const column = scores + v * lanes<float>;
      const vec<float> first = fma(load(column + key * tile_rows<float>), factor, -reference[v]);
      const vec<float> second = fma(load(column + (key + 1) * tile_rows<float>), factor, -reference[v]);
      if constexpr (Sums) sum[v] = sum[v] + exp2_nonpositive(first) + exp2_nonpositive(second);
      const u32v pair = upper_halves(exp2_to_be_cut(first), exp2_to_be_cut(second));
      A::store_rows(column + key / 2 * tile_rows<float>, pair);
      if constexpr (!A::products_sum_weights) used[v] = A::add_pair(pair, used[v]);
    }
  }
}

template <>
void exponentiate<bfloat16, float>(const AttentionTask& task, float* scores, const KeyRange& range,
                                   const Tile<float>& tile, vec<float>* correction) {
  using A = TileArithmetic<bfloat16>;
  const vec<float> nothing = broadcast<float>(negative_infinity<float>);
  const vec<float> factor = broadcast<float>(scales_late<bfloat16>(task) ? score_scale<float>(task) : 1.0f);
  vec<float> reference[tile_vectors], sum[tile_vectors] = {}, used[tile_vectors] = {};
  largest_scores(scores, range.first, range.last, reference);
  for (int v = 0; v < tile_vectors; ++v) {
    // As long as no score is far above what they are taken relative to, that stays, and so do the sums.
    const vec<float> old = load(tile.maximum + v * lanes<float>), largest = reference[v] * factor;
    const vec<float> maximum = largest > old + broadcast<float>(most_above) ? largest : old;
    store(tile.maximum + v * lanes<float>, maximum);
    // A row that has seen nothing yet: -inf - -inf would be NaN.
    reference[v] = maximum == nothing ? zero<float>() : maximum;
    correction[v] = exp2_nonpositive(old - reference[v]);
  }
  const int begin = weights_begin<A>(range), end = weights_end<A>(range);
  for (int i = begin * tile_rows<float>; i < range.first * tile_rows<float>; i += lanes<float>)
    store(scores + i, nothing);
  for (int i = range.last * tile_rows<float>; i < end * tile_rows<float>; i += lanes<float>) store(scores + i, nothing);
  // Nobody else wants the sum of the weights as they were before rounding.
  if (task.lse != nullptr || task.weights != nullptr)
    weigh<true>(scores, begin, end, factor, reference, sum, used);
  else
    weigh<false>(scores, begin, end, factor, reference, sum, used);
  for (int v = 0; v < tile_vectors; ++v) {
    float* const total = tile.sum + v * lanes<float>;
    store(total, fma(load(total), correction[v], sum[v]));
    float* const total_used = tile.used + v * lanes<float>;
    store(total_used, fma(load(total_used), correction[v], used[v]));
  }
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
