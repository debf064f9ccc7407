#include "kernels/attention_decode.hpp"

#include "kernels/attention_decode_products.hpp"
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

template <class T, class C = compute_type<T>>
constexpr std::int64_t partial_elements(std::int64_t rows, std::int64_t value_size) {
  return rows * DecodeProducts<T>::out_elements(value_size) + 3 * decode_rows;
}

template <class T, class C = compute_type<T>>
Partial<C> divide_partial(C* memory, std::int64_t rows, std::int64_t value_size) {
  C* const statistics = memory + rows * DecodeProducts<T>::out_elements(value_size);
  return {memory, statistics, statistics + decode_rows, statistics + 2 * decode_rows};
}

template <class T, class C = compute_type<T>>
struct Decoding {
  using Products = DecodeProducts<T>;
  using Weight = typename Products::Weight;

  const AttentionTask& task;
  int rows;
  std::int64_t query_of[decode_rows], head_of[decode_rows];
  std::int64_t low[decode_rows], high[decode_rows];
  std::int64_t lowest, highest;  // keys outside are seen by no row

  C* query;         // [rows][query_elements]
  C* scores;        // [rows][decode_chunk]
  Weight* weights;  // [rows][decode_chunk], the same memory if their types agree
  T* zeros;         // a row of values
  C* joined;        // a partial result over all chunks so far
  C* latest;        // and one of the latest chunk

  static constexpr int blocks_ahead = 4;
  static constexpr std::int64_t line = 64 / sizeof(C);
  static constexpr std::int64_t whole_lines(std::int64_t elements) { return (elements + line - 1) / line * line; }
  static constexpr std::int64_t scratch_elements(std::int64_t rows, std::int64_t head_size, std::int64_t value_size) {
    return rows * (Products::query_elements(head_size) + 2 * decode_chunk) +
           whole_lines(Products::out_elements(value_size)) + 2 * whole_lines(partial_elements<T>(rows, value_size));
  }

  explicit Decoding(const AttentionTask& arguments) : task(arguments), rows(static_cast<int>(arguments.rows)) {
    query = static_cast<C*>(task.scratch);
    scores = query + rows * Products::query_elements(task.head_size);
    C* const own_weights = scores + rows * decode_chunk;
    if constexpr (sizeof(Weight) == sizeof(C))
      weights = scores;
    else
      weights = reinterpret_cast<Weight*>(own_weights);
    C* const zero_row = own_weights + rows * decode_chunk;
    zeros = reinterpret_cast<T*>(zero_row);
    joined = zero_row + whole_lines(Products::out_elements(task.value_size));
    latest = joined + whole_lines(partial_elements<T>(rows, task.value_size));
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
    for (int row = 0; row < rows; ++row)
      Products::stage_query(static_cast<const T*>(task.query) + offset(row, task.query_head_stride, task.query_stride),
                            task.head_size, score_scale<C>(task),
                            query + row * Products::query_elements(task.head_size));
    for (std::int64_t d = 0; d < Products::out_elements(task.value_size); d += lanes<C>)
      store(reinterpret_cast<C*>(zeros) + d, zero<C>());
  }

  std::int64_t offset(int row, std::int64_t head_stride, std::int64_t query_stride) const {
    return query_of[row] * query_stride + head_of[row] * head_stride;
  }

  // The chunk's keys that some row may see, counted from the chunk's begin, and the blocks that hold them.
  struct Range {
    std::int64_t begin;
    int first, last;
    int first_block() const { return first / block_keys<C> * block_keys<C>; }
  };
  Range range_of(std::int64_t chunk) const {
    Range range{chunk * decode_chunk, 0, 0};
    const std::int64_t first = lowest - range.begin, last = highest - range.begin;
    range.first = static_cast<int>(first > 0 ? first : 0);
    range.last = static_cast<int>(last < decode_chunk ? last : decode_chunk);
    if (first >= decode_chunk || last <= 0) range.first = range.last = 0;
    return range;
  }

  // Pointers to the rows of one block; keys outside the range get the nearest row inside, or `other`.
  static void point_to(const T* rows_of_chunk, std::int64_t stride, const Range& range, int block, const T* other,
                       const T** pointers) {
    for (int i = 0; i < block_keys<C>; ++i) {
      const int key = block + i;
      const int inside = key < range.first ? range.first : key >= range.last ? range.last - 1 : key;
      pointers[i] = inside == key || other == nullptr ? rows_of_chunk + inside * stride : other;
    }
  }

  // What is fetched while the chunk's rows are read, a few blocks ahead and into the next chunk.
  RowsAhead rows_ahead(const T* rows_of_chunk, std::int64_t stride, std::int64_t size, const Range& range) const {
    const std::int64_t last = highest - 1 - range.begin, wanted = range.first_block() + blocks_ahead * block_keys<C>;
    const std::int64_t first = wanted < last ? wanted : last;
    constexpr std::int64_t bytes = sizeof(T);
    return {reinterpret_cast<const char*>(rows_of_chunk + first * stride), stride * bytes, size * bytes,
            last - first + 1};
  }

  void score(const Range& range) {
    const T* keys = static_cast<const T*>(task.key) + range.begin * task.key_stride;
    RowsAhead ahead = rows_ahead(keys, task.key_stride, task.head_size, range);
    for (int block = range.first_block(); block < range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(keys, task.key_stride, range, block, nullptr, pointers);
      score_rows<T>(pointers, &ahead, rows, query, task.head_size, scores + block);
    }
  }

  // Scores of one row, modified; its maximum. `all_seen` loses the lanes of keys in the range that the row may not see.
  C modify(int row, const Range& range, mask_vec<C>& all_seen) {
    using Integer = lane_integer<C>;
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
    const vec<C> scale = broadcast<C>(Products::scales_queries ? C{1} : score_scale<C>(task));
    vec<C> slope{}, position{};
    if (task.slopes != nullptr) {
      slope = broadcast<C>(static_cast<const C*>(task.slopes)[head_of[row]] * static_cast<C>(log2_e));
      position = broadcast<C>(static_cast<C>(task.query_offset + query_of[row] - range.begin));
    }
    C* own = scores + row * decode_chunk;
    vec<C> maximum = broadcast<C>(negative_infinity<C>);
    for (int block = range.first_block(); block < range.last; block += block_keys<C>) {
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
  void exponentiate(int row, const Range& range, const Partial<C>& partial) {
    const C maximum = partial.maximum[row];
    const vec<C> reference = broadcast<C>(maximum == negative_infinity<C> ? C{0} : maximum);
    vec<C> sum = zero<C>(), used = zero<C>();
    for (int block = range.first_block(); block < range.last; block += block_keys<C>) {
      const std::int64_t place = row * decode_chunk + block;
      const vec<C> weight = exp2_nonpositive(load(scores + place) - reference);
      Products::store_weights(weight, weights + place);
      sum = sum + weight;
      if constexpr (Products::rounds_weights) used = used + load(weights + place);
    }
    partial.sum[row] = reduce_add<C>(sum);
    partial.used[row] = Products::rounds_weights ? reduce_add<C>(used) : partial.sum[row];
  }

  void add_values(const Range& range, C* out) {
    const T* values = static_cast<const T*>(task.value) + range.begin * task.value_stride;
    RowsAhead ahead = rows_ahead(values, task.value_stride, task.value_size, range);
    for (int block = range.first_block(); block < range.last; block += block_keys<C>) {
      const T* pointers[block_keys<C>];
      point_to(values, task.value_stride, range, block, zeros, pointers);
      add_block_values<T>(pointers, &ahead, rows, task.value_size, weights + block, out);
    }
  }

  // The same where some values are not finite and some row may not see them: such a row reads zeros instead, since 0
  // times NaN is NaN.
  void add_seen_values(const Range& range, C* out) {
    const T* values = static_cast<const T*>(task.value) + range.begin * task.value_stride;
    for (int block = range.first_block(); block < range.last; block += block_keys<C>) {
      for (int row = 0; row < rows; ++row) {
        const Weight* own = weights + row * decode_chunk + block;
        const T* pointers[block_keys<C>];
        point_to(values, task.value_stride, range, block, zeros, pointers);
        const vec<C> weight = load(own);
        for (int i = 0; i < block_keys<C>; ++i)
          if (weight[i] == C{0}) pointers[i] = zeros;
        add_block_values<T>(pointers, nullptr, 1, task.value_size, own,
                            out + row * Products::out_elements(task.value_size));
      }
    }
  }

  bool values_are_finite(const Range& range) const {
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
    const Range range = range_of(chunk);
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
        const vec<C> value = load(from + d) * broadcast<C>(out_factor[row]);
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
      const Range range = range_of(chunk);
      score(range);
      mask_vec<C> ignored{};
      for (int row = 0; row < rows; ++row) {
        modify(row, range, ignored);
        const vec<C> reference = broadcast<C>(maximum[row] == negative_infinity<C> ? C{0} : maximum[row]);
        for (int block = range.first_block(); block < range.last; block += block_keys<C>) {
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

template <class T>
void attend(const AttentionTask* task) noexcept {
  Decoding<T> decoding(*task);
  const auto total = divide_partial<T>(decoding.joined, task->rows, task->value_size);
  const auto latest = divide_partial<T>(decoding.latest, task->rows, task->value_size);
  decoding.stage();
  decoding.clear(total);
  for (std::int64_t chunk = decoding.lowest / decode_chunk; chunk * decode_chunk < decoding.highest; ++chunk) {
    decoding.attend_chunk(chunk, latest);
    decoding.join(total, latest);
  }
  decoding.finish(total);
}

template <class T, class C = compute_type<T>>
std::int64_t bytes_of_partial(std::int64_t rows, std::int64_t value_size) noexcept {
  return Decoding<T>::whole_lines(partial_elements<T>(rows, value_size)) * static_cast<std::int64_t>(sizeof(C));
}

template <class T, class C = compute_type<T>>
C* partial_at(const AttentionTask& task, const void* partials, std::int64_t chunk) {
  char* const bytes = static_cast<char*>(const_cast<void*>(partials));
  return reinterpret_cast<C*>(bytes + chunk * bytes_of_partial<T>(task.rows, task.value_size));
}

template <class T>
void attend_chunk(const AttentionTask* task, std::int64_t chunk, void* partials) noexcept {
  Decoding<T> decoding(*task);
  decoding.stage();
  decoding.attend_chunk(chunk, divide_partial<T>(partial_at<T>(*task, partials, chunk), task->rows, task->value_size));
}

template <class T>
void join_chunks(const AttentionTask* task, const void* partials) noexcept {
  Decoding<T> decoding(*task);
  const auto total = divide_partial<T>(decoding.joined, task->rows, task->value_size);
  decoding.clear(total);
  for (std::int64_t chunk = decoding.lowest / decode_chunk; chunk * decode_chunk < decoding.highest; ++chunk)
    decoding.join(total, divide_partial<T>(partial_at<T>(*task, partials, chunk), task->rows, task->value_size));
  decoding.finish(total);
}

template <class T, class C = compute_type<T>>
std::int64_t scratch_bytes(std::int64_t rows, std::int64_t head_size, std::int64_t value_size) noexcept {
  return Decoding<T>::scratch_elements(rows, head_size, value_size) * static_cast<std::int64_t>(sizeof(C));
}

}  // namespace

extern const AttentionDecodeKernels attention_decode_kernels;
constinit const AttentionDecodeKernels attention_decode_kernels = {
    .attend = {attend<float>, attend<double>, attend<float16>, attend<bfloat16>},
    .attend_chunk = {attend_chunk<float>, attend_chunk<double>, attend_chunk<float16>, attend_chunk<bfloat16>},
    .join_chunks = {join_chunks<float>, join_chunks<double>, join_chunks<float16>, join_chunks<bfloat16>},
    .partial_bytes = {bytes_of_partial<float>, bytes_of_partial<double>, bytes_of_partial<float16>,
                      bytes_of_partial<bfloat16>},
    .scratch_bytes = {scratch_bytes<float>, scratch_bytes<double>, scratch_bytes<float16>, scratch_bytes<bfloat16>},
};

}  // namespace attnlib::ATTNLIB_ISA
