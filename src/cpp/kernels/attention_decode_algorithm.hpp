// Decoding chunk by chunk of keys (kernels/attention_decode.hpp), whatever multiplies: a Multiplier multiplies one
// chunk (score, add_values, add_seen_values), and its Products tell how queries, weights and sums lie.
#pragma once

#include "kernels/attention_decode.hpp"
#include "kernels/attention_decode_chunk.hpp"
#include "kernels/attention_rows.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// Results over some of the keys: out is not yet divided; maximum in units of log2; sum and used as in end_row.
template <class C>
struct Partial {
  C* out;      // [rows][out_elements]
  C* maximum;  // [rows], as the following
  C* sum;
  C* used;
};

template <class Products>
constexpr std::int64_t partial_elements(std::int64_t rows, std::int64_t value_size) {
  return rows * Products::out_elements(value_size) + 3 * decode_rows;
}

template <class Products, class C>
Partial<C> divide_partial(C* memory, std::int64_t rows, std::int64_t value_size) {
  C* const statistics = memory + rows * Products::out_elements(value_size);
  return {memory, statistics, statistics + decode_rows, statistics + 2 * decode_rows};
}

template <class Multiplier>
struct Decoding {
  using T = typename Multiplier::Element;
  using C = compute_type<T>;
  using Products = typename Multiplier::Products;
  using Weight = typename Products::Weight;

  const AttentionTask& task;
  int rows;
  std::int64_t query_of[decode_rows], head_of[decode_rows];
  std::int64_t low[decode_rows], high[decode_rows];
  std::int64_t lowest, highest;  // keys outside are seen by no row

  C* query;         // query_elements
  C* scores;        // [rows][decode_chunk]
  Weight* weights;  // [rows][decode_chunk], the same memory if their types agree
  T* zeros;         // a row of values
  C* joined;        // a partial result over all chunks so far
  C* latest;        // and one of the latest chunk

  static constexpr std::int64_t line = 64 / sizeof(C);
  static constexpr std::int64_t whole_lines(std::int64_t elements) { return (elements + line - 1) / line * line; }
  static constexpr std::int64_t scratch_elements(std::int64_t rows, std::int64_t head_size, std::int64_t value_size) {
    return Products::query_elements(rows, head_size) + rows * 2 * decode_chunk +
           whole_lines(Products::out_elements(value_size)) +
           2 * whole_lines(partial_elements<Products>(rows, value_size));
  }

  explicit Decoding(const AttentionTask& arguments) : task(arguments), rows(static_cast<int>(arguments.rows)) {
    query = static_cast<C*>(task.scratch);
    scores = query + Products::query_elements(rows, task.head_size);
    C* const own_weights = scores + rows * decode_chunk;
    if constexpr (sizeof(Weight) == sizeof(C))
      weights = scores;
    else
      weights = reinterpret_cast<Weight*>(own_weights);
    C* const zero_row = own_weights + rows * decode_chunk;
    zeros = reinterpret_cast<T*>(zero_row);
    joined = zero_row + whole_lines(Products::out_elements(task.value_size));
    latest = joined + whole_lines(partial_elements<Products>(rows, task.value_size));
    lowest = task.keys;
    highest = 0;
    for (int row = 0; row < rows; ++row) {
      query_of[row] = row / task.heads;
      head_of[row] = row % task.heads;
      const SeenKeys seen = seen_keys(task, query_of[row]);
      low[row] = seen.low;
      high[row] = seen.high;
      if (seen.low == seen.high) continue;
      lowest = seen.low < lowest ? seen.low : lowest;
      highest = seen.high > highest ? seen.high : highest;
    }
  }

  void stage() {
    Products::clear_queries(rows, task.head_size, query);
    for (int row = 0; row < rows; ++row)
      Products::stage_query(static_cast<const T*>(task.query) + offset(row, task.query_head_stride, task.query_stride),
                            task.head_size, score_scale<C>(task), row, query);
    for (std::int64_t d = 0; d < Products::out_elements(task.value_size); d += lanes<C>)
      store(reinterpret_cast<C*>(zeros) + d, zero<C>());
  }

  std::int64_t offset(int row, std::int64_t head_stride, std::int64_t query_stride) const {
    return query_of[row] * query_stride + head_of[row] * head_stride;
  }

  // The keys of a chunk, and the blocks that hold them.
  ChunkRange range_of(std::int64_t chunk) const {
    ChunkRange range{chunk * decode_chunk, 0, 0};
    const std::int64_t first = lowest - range.begin, last = highest - range.begin;
    range.first = static_cast<int>(first > 0 ? first : 0);
    range.last = static_cast<int>(last < decode_chunk ? last : decode_chunk);
    if (first >= decode_chunk || last <= 0) range.first = range.last = 0;
    return range;
  }

  // What is fetched while the chunk's rows are read, a few blocks ahead and into the next chunk.
  RowsAhead rows_ahead(const T* rows_of_chunk, std::int64_t stride, std::int64_t size, const ChunkRange& range) const {
    const std::int64_t last = highest - 1 - range.begin, wanted = first_block<C>(range) + Products::keys_ahead;
    const std::int64_t first = wanted < last ? wanted : last;
    constexpr std::int64_t bytes = sizeof(T);
    return {reinterpret_cast<const char*>(rows_of_chunk + first * stride), stride * bytes, size * bytes,
            last - first + 1};
  }

  ChunkRows<T> keys_of(const ChunkRange& range) const {
    const T* keys = static_cast<const T*>(task.key) + range.begin * task.key_stride;
    return {keys, task.key_stride, range, rows_ahead(keys, task.key_stride, task.head_size, range)};
  }
  ChunkRows<T> values_of(const ChunkRange& range) const {
    const T* values = static_cast<const T*>(task.value) + range.begin * task.value_stride;
    return {values, task.value_stride, range, rows_ahead(values, task.value_stride, task.value_size, range)};
  }

  void score(const ChunkRange& range) {
    if (range.first < range.last) Multiplier::score(keys_of(range), rows, query, task.head_size, scores);
  }

  // Whether the row sees whole blocks of keys, all that are scored, and nothing is done to their scores.
  bool stays_as_it_is(int row, const ChunkRange& range) const {
    return task.mask == nullptr && task.bias == nullptr && task.slopes == nullptr && task.softcap == 0.0 &&
           low[row] <= range.begin + range.first && high[row] >= range.begin + range.last &&
           range.first % block_keys<C> == 0 && range.last % block_keys<C> == 0;
  }

  // Scores of one row, modified; its maximum. `all_seen` loses the lanes of keys in the range that the row may not see.
  C modify(int row, const ChunkRange& range, mask_vec<C>& all_seen) {
    using Integer = lane_integer<C>;
    const vec<C> scale = broadcast<C>(Products::scales_queries ? C{1} : score_scale<C>(task));
    C* own = scores + row * decode_chunk;
    vec<C> maximum = broadcast<C>(negative_infinity<C>);
    if (stays_as_it_is(row, range)) {
      for (int block = range.first; block < range.last; block += block_keys<C>) {
        const vec<C> score = load(own + block) * scale;
        store(own + block, score);
        maximum = max(maximum, score);
      }
      return reduce_max<C>(maximum);
    }
    const auto within = [&](std::int64_t key) {
      const std::int64_t relative = key - range.begin;
      return broadcast_integer<C>(static_cast<Integer>(relative < 0              ? 0
                                                       : relative > decode_chunk ? decode_chunk
                                                                                 : relative));
    };
    const mask_vec<C> from = within(low[row]), to = within(high[row]);
    const mask_vec<C> first = broadcast_integer<C>(range.first), last = broadcast_integer<C>(range.last);
    const bool* mask = task.mask == nullptr ? nullptr
                                            : task.mask + offset(row, task.mask_head_stride, task.mask_query_stride) +
                                                  range.begin * task.mask_key_stride;
    const T* bias = task.bias == nullptr ? nullptr
                                         : static_cast<const T*>(task.bias) +
                                               offset(row, task.bias_head_stride, task.bias_query_stride) +
                                               range.begin * task.bias_key_stride;
    vec<C> slope{}, position{};
    if (task.slopes != nullptr) {
      slope = broadcast<C>(static_cast<const C*>(task.slopes)[head_of[row]] * static_cast<C>(log2_e));
      position = broadcast<C>(static_cast<C>(task.query_offset + query_of[row] - range.begin));
    }
    for (int block = first_block<C>(range); block < range.last; block += block_keys<C>) {
      const int left = range.last - block < block_keys<C> ? range.last - block : block_keys<C>;
      const mask_vec<C> key = lane_index<C>() + broadcast_integer<C>(block);
      mask_vec<C> seen = (key >= from) & (key < to);
      if (mask != nullptr)
        seen = seen & load_strided_flags<C>(mask + block * task.mask_key_stride, task.mask_key_stride, left);
      vec<C> entries{};
      if (bias != nullptr) entries = load_strided(bias + block * task.bias_key_stride, task.bias_key_stride, left);
      const vec<C> distance = position - __builtin_convertvector(key, vec<C>);
      const vec<C> score = modify_score<C>(task, load(own + block) * scale, entries, slope, distance, seen);
      store(own + block, score);
      maximum = max(maximum, score);
      all_seen = all_seen & (seen | (key < first) | (key >= last));
    }
    return reduce_max<C>(maximum);
  }

  // scores -> weights: 2^(S - maximum); their sums.
  void exponentiate(int row, const ChunkRange& range, const Partial<C>& partial) {
    const C maximum = partial.maximum[row];
    const vec<C> reference = broadcast<C>(maximum == negative_infinity<C> ? C{0} : maximum);
    // Where weights are rounded, their sum as they were before is of use for nothing else.
    const bool wants_sum = Products::rounds_weights && (task.lse != nullptr || task.weights != nullptr);
    vec<C> sum = zero<C>(), used = zero<C>();
    for (int block = first_block<C>(range); block < range.last; block += block_keys<C>) {
      const std::int64_t place = row * decode_chunk + block;
      const vec<C> score = load(scores + place) - reference;
      if (wants_sum) sum = sum + exp2_nonpositive(score);
      const vec<C> weight = Products::weight_of(score);
      Products::store_weights(weight, weights + place);
      used = used + weight;
    }
    partial.used[row] = reduce_add<C>(used);
    partial.sum[row] = wants_sum ? reduce_add<C>(sum) : partial.used[row];
  }

  void add_values(const ChunkRange& range, C* out) {
    if (range.first < range.last) Multiplier::add_values(values_of(range), rows, weights, task.value_size, zeros, out);
  }

  // The same where some values are not finite and some row may not see them: such a row reads zeros instead, since 0
  // times NaN is NaN.
  void add_seen_values(const ChunkRange& range, C* out) {
    for (int row = 0; row < rows; ++row)
      Multiplier::add_seen_values(values_of(range), weights + row * decode_chunk, task.value_size, zeros,
                                  out + row * Products::out_elements(task.value_size));
  }

  bool values_are_finite(const ChunkRange& range) const {
    const T* values = static_cast<const T*>(task.value) + range.begin * task.value_stride;
    vec<C> sum = zero<C>();
    for (int key = range.first; key < range.last; ++key) {
      const T* row = values + key * task.value_stride;
      std::int64_t d = 0;
      for (; d + lanes<C> <= task.value_size; d += lanes<C>) sum = fma(load(row + d), zero<C>(), sum);
      if (d < task.value_size) sum = fma(load_partial(row + d, static_cast<int>(task.value_size - d)), zero<C>(), sum);
    }
    return !any<C>(sum != zero<C>());
  }

  void attend_chunk(std::int64_t chunk, const Partial<C>& partial) {
    const ChunkRange range = range_of(chunk);
    for (std::int64_t i = 0; i < rows * Products::out_elements(task.value_size); i += lanes<C>)
      store(partial.out + i, zero<C>());
    score(range);
    mask_vec<C> all_seen = broadcast_integer<C>(-1);
    for (int row = 0; row < rows; ++row) {
      partial.maximum[row] = modify(row, range, all_seen);
      exponentiate(row, range, partial);
    }
    if (any<C>(~all_seen) && !values_are_finite(range))
      add_seen_values(range, partial.out);
    else
      add_values(range, partial.out);
  }

  void clear(const Partial<C>& total) const {
    for (std::int64_t i = 0; i < rows * Products::out_elements(task.value_size); i += lanes<C>)
      store(total.out + i, zero<C>());
    for (int row = 0; row < rows; ++row) {
      total.maximum[row] = negative_infinity<C>;
      total.sum[row] = total.used[row] = 0;
    }
  }

  void join(const Partial<C>& total, const Partial<C>& part) const {
    for (int row = 0; row < rows; ++row) {
      const C old = total.maximum[row], fresh = part.maximum[row];
      if (fresh == negative_infinity<C> && part.sum[row] == C{0}) continue;  // saw nothing
      const C maximum = fresh > old || fresh != fresh ? fresh : old;
      const C reference = maximum == negative_infinity<C> ? C{0} : maximum;
      const C keep = exp2_nonpositive(broadcast<C>(old - reference))[0];
      const C take = exp2_nonpositive(broadcast<C>(fresh - reference))[0];
      total.maximum[row] = maximum;
      total.sum[row] = total.sum[row] * keep + part.sum[row] * take;
      total.used[row] = total.used[row] * keep + part.used[row] * take;
      const std::int64_t width = Products::out_elements(task.value_size);
      for (std::int64_t i = row * width; i < (row + 1) * width; i += lanes<C>)
        store(total.out + i, fma(load(total.out + i), broadcast<C>(keep), load(part.out + i) * broadcast<C>(take)));
    }
  }

  void finish(const Partial<C>& total) {
    C factor[decode_rows], out_factor[decode_rows];
    for (int first = 0; first < rows; first += lanes<C>) {
      const RowsEnd<C> end = end_rows<C>(task, head_of + first, rows - first, load(total.maximum + first),
                                         load(total.sum + first), load(total.used + first));
      store(factor + first, end.weight_factor);
      store(out_factor + first, end.out_factor);
      if (task.lse == nullptr) continue;
      for (int row = first; row < rows && row < first + lanes<C>; ++row)
        static_cast<C*>(task.lse)[offset(row, task.lse_head_stride, task.lse_query_stride)] =
            log_sum<C>(end.maximum[row - first], end.sum[row - first]);
    }
    for (int row = 0; row < rows; ++row) {
      T* out = static_cast<T*>(task.out) + offset(row, task.out_head_stride, task.out_stride);
      const C* from = total.out + row * Products::out_elements(task.value_size);
      for (std::int64_t d = 0; d < task.value_size; d += lanes<C>) {
        const vec<C> value = Products::load_sums(from, d) * broadcast<C>(out_factor[row]);
        if (task.value_size - d < lanes<C>)
          store_partial(out + d, value, static_cast<int>(task.value_size - d));
        else
          store(out + d, value);
      }
    }
    if (task.weights != nullptr) write_weights(total.maximum, factor);
  }

  // The weights need the final maximum and sum: the scores are made a second time.
  void write_weights(const C* maximum, const C* factor) {
    for (int row = 0; row < rows; ++row)
      __builtin_memset(weights_row(row), 0, static_cast<std::uint64_t>(task.weights_keys) * sizeof(T));
    stage();
    for (std::int64_t chunk = lowest / decode_chunk; chunk * decode_chunk < highest; ++chunk) {
      const ChunkRange range = range_of(chunk);
      score(range);
      mask_vec<C> ignored{};
      for (int row = 0; row < rows; ++row) {
        modify(row, range, ignored);
        const vec<C> reference = broadcast<C>(maximum[row] == negative_infinity<C> ? C{0} : maximum[row]);
        for (int block = first_block<C>(range); block < range.last; block += block_keys<C>) {
          const vec<C> weight = exp2_nonpositive(load(scores + row * decode_chunk + block) - reference);
          T* target = weights_row(row) + range.begin + block;
          const int left = range.last - block;
          if (left < block_keys<C>)
            store_partial(target, weight * broadcast<C>(factor[row]), left);
          else
            store(target, weight * broadcast<C>(factor[row]));
        }
      }
    }
  }

  T* weights_row(int row) const {
    return static_cast<T*>(task.weights) + offset(row, task.weights_head_stride, task.weights_query_stride);
  }
};

template <class Multiplier>
void attend(const AttentionTask* task) noexcept {
  Decoding<Multiplier> decoding(*task);
  const auto total = divide_partial<typename Multiplier::Products>(decoding.joined, task->rows, task->value_size);
  const auto latest = divide_partial<typename Multiplier::Products>(decoding.latest, task->rows, task->value_size);
  decoding.stage();
  decoding.clear(total);
  for (std::int64_t chunk = decoding.lowest / decode_chunk; chunk * decode_chunk < decoding.highest; ++chunk) {
    decoding.attend_chunk(chunk, latest);
    decoding.join(total, latest);
  }
  decoding.finish(total);
}

template <class Multiplier>
std::int64_t bytes_of_partial(std::int64_t rows, std::int64_t value_size) noexcept {
  return Decoding<Multiplier>::whole_lines(partial_elements<typename Multiplier::Products>(rows, value_size)) *
         static_cast<std::int64_t>(sizeof(typename Multiplier::C));
}

template <class Multiplier>
typename Multiplier::C* partial_at(const AttentionTask& task, const void* partials, std::int64_t chunk) {
  char* const bytes = static_cast<char*>(const_cast<void*>(partials));
  return reinterpret_cast<typename Multiplier::C*>(bytes +
                                                   chunk * bytes_of_partial<Multiplier>(task.rows, task.value_size));
}

template <class Multiplier>
void attend_chunk(const AttentionTask* task, std::int64_t chunk, void* partials) noexcept {
  Decoding<Multiplier> decoding(*task);
  decoding.stage();
  decoding.attend_chunk(chunk, divide_partial<typename Multiplier::Products>(
                                   partial_at<Multiplier>(*task, partials, chunk), task->rows, task->value_size));
}

template <class Multiplier>
void join_chunks(const AttentionTask* task, const void* partials) noexcept {
  Decoding<Multiplier> decoding(*task);
  const auto total = divide_partial<typename Multiplier::Products>(decoding.joined, task->rows, task->value_size);
  decoding.clear(total);
  for (std::int64_t chunk = decoding.lowest / decode_chunk; chunk * decode_chunk < decoding.highest; ++chunk)
    decoding.join(total, divide_partial<typename Multiplier::Products>(partial_at<Multiplier>(*task, partials, chunk),
                                                                       task->rows, task->value_size));
  decoding.finish(total);
}

template <class Multiplier>
std::int64_t scratch_bytes(std::int64_t rows, std::int64_t head_size, std::int64_t value_size) noexcept {
  return Decoding<Multiplier>::scratch_elements(rows, head_size, value_size) *
         static_cast<std::int64_t>(sizeof(typename Multiplier::C));
}

}  // namespace
}  // namespace attnlib::ATTNLIB_ISA
