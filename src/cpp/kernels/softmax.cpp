#include "kernels/softmax.hpp"

#include "kernels/row_vectors.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {

template <class C>
inline constexpr C negative_infinity = static_cast<C>(-__builtin_inf());

// What is subtracted before the exponential. Where there is nothing but -inf, any finite number gives exponentials,
// and a sum, of 0 (and finds a NaN that the maximum lost).
template <class C>
ATTNLIB_INLINE C shift_of(C maximum) {
  return maximum == negative_infinity<C> ? C{0} : maximum;
}

// Where the exponentials, and before them the widened or masked elements, rest.
template <class T>
ATTNLIB_INLINE compute_type<T>* kept(const SoftmaxPart& part) {
  return static_cast<compute_type<T>*>(streamable<T> && !part.streamed ? part.out : part.scratch);
}

// The elements as the first pass leaves them.
template <class T, bool masked>
ATTNLIB_INLINE const compute_type<T>* first_pass(const SoftmaxPart& part) {
  constexpr bool untouched = !masked && sizeof(T) == sizeof(compute_type<T>);
  return untouched ? static_cast<const compute_type<T>*>(part.x) : kept<T>(part);
}

// -inf if nothing takes part. A NaN may be lost here: its exponential brings it back.
template <class T, bool masked>
ATTNLIB_INLINE compute_type<T> maximum(const SoftmaxPart& part) {
  using C = compute_type<T>;
  const T* x = static_cast<const T*>(part.x);
  vec<C> chain[row_chains];
  for (vec<C>& largest : chain) largest = broadcast<C>(negative_infinity<C>);
  for_each_vector<C>(part.n, [&](std::int64_t i, int count, int k) __attribute__((always_inline)) {
    vec<C> value = load_lanes(x + i, count);
    if constexpr (masked) value = load_flags<C>(part.mask + i, count) ? value : broadcast<C>(negative_infinity<C>);
    if constexpr (masked || sizeof(T) != sizeof(C)) store_lanes(kept<T>(part) + i, value, count);
    chain[k] = max(chain[k], pad_lanes<C>(value, count, negative_infinity<C>));
  });
  return max_chains<C>(chain);
}

// `ahead` is the part that is prefetched meanwhile: one whose turn comes soon, or any.
template <class T, bool log, bool masked>
ATTNLIB_INLINE compute_type<T> sum(const SoftmaxPart& part, compute_type<T> maximum, const SoftmaxPart& ahead) {
  using C = compute_type<T>;
  const T* next = static_cast<const T*>(ahead.x);
  // What is streamed need not be there before it is written.
  const T* next_out = static_cast<const T*>(ahead.streamed ? ahead.x : ahead.out);
  const C* x = first_pass<T, masked>(part);
  C* exponentials = kept<T>(part);
  const vec<C> shift = broadcast<C>(shift_of(maximum));
  C total = 0;
  for_each_part(part.n, [&](std::int64_t begin, std::int64_t length) __attribute__((always_inline)) {
    vec<C> chain[row_chains] = {};
    for_each_vector<C>(length, [&](std::int64_t i, int count, int k) __attribute__((always_inline)) {
      const vec<C> value = exp_of_difference<C>(load_lanes(x + begin + i, count), shift);
      if constexpr (!log) store_lanes(exponentials + begin + i, value, count);
      __builtin_prefetch(next + begin + i, 0);
      __builtin_prefetch(next_out + begin + i, 1);
      chain[k] += pad_lanes<C>(value, count, C{0});
    });
    total += sum_chains<C>(chain);
  });
  return total;
}

ATTNLIB_INLINE float logarithm(float x) { return static_cast<float>(__builtin_log(static_cast<double>(x))); }
ATTNLIB_INLINE double logarithm(double x) { return __builtin_log(x); }

template <class T, bool log, bool masked, bool streamed>
ATTNLIB_INLINE void finish_row(const SoftmaxPart& part, compute_type<T> maximum, compute_type<T> sum) {
  using C = compute_type<T>;
  T* out = static_cast<T*>(part.out);
  if constexpr (log) {
    const C* x = first_pass<T, masked>(part);
    if (sum == C{0}) {  // nothing but -inf
      __builtin_memset(out, 0, static_cast<unsigned long>(part.n) * sizeof(T));
      return;
    }
    const vec<C> shift = broadcast<C>(shift_of(maximum)), log_sum = broadcast<C>(logarithm(sum));
    for_each_vector<C>(part.n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_result<streamed>(out + i, (load_lanes(x + i, count) - shift) - log_sum, count);
    });
  } else {
    const C* exponentials = kept<T>(part);
    const C factor = sum == C{0} ? C{0} : C{1} / sum;
    const bool nan = factor != factor;
    for_each_vector<C>(part.n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      vec<C> value = load_lanes(exponentials + i, count) * broadcast<C>(factor);
      if constexpr (masked)  // 0 * NaN is not the 0 that a masked position is promised
        if (nan) value = load_flags<C>(part.mask + i, count) ? value : zero<C>();
      store_result<streamed>(out + i, value, count);
    });
  }
}

template <class T, bool log, bool masked>
ATTNLIB_INLINE void finish(const SoftmaxPart& part, compute_type<T> maximum, compute_type<T> sum) {
  part.streamed ? finish_row<T, log, masked, true>(part, maximum, sum)
                : finish_row<T, log, masked, false>(part, maximum, sum);
}

template <class T, bool masked>
ATTNLIB_INLINE SoftmaxPart row_of(const SoftmaxRows& rows, std::int64_t row, int place) {
  return {.x = static_cast<const T*>(rows.x) + row * rows.x_stride,
          .out = static_cast<T*>(rows.out) + row * rows.out_stride,
          .mask = masked ? rows.mask + row * rows.mask_stride : nullptr,
          .scratch = static_cast<compute_type<T>*>(rows.scratch) + place * rows.n,
          .n = rows.n,
          .streamed = rows.streamed};
}

template <class T, bool log, bool masked>
static void run_rows(const SoftmaxRows& rows) noexcept {
  using C = compute_type<T>;
  const int group = rows_in_group(rows.n, row_group_elements);
  for (std::int64_t first = 0; first < rows.rows; first += group) {
    const int count = rows.rows - first < group ? static_cast<int>(rows.rows - first) : group;
    SoftmaxPart parts[row_group_rows];
    C maxima[row_group_rows], sums[row_group_rows];
    for (int i = 0; i < count; ++i) {
      parts[i] = row_of<T, masked>(rows, first + i, i);
      maxima[i] = maximum<T, masked>(parts[i]);
    }
    for (int i = 0; i < count; ++i) {
      // The passes between two groups would wait for memory otherwise, and this one has the time.
      const std::int64_t later = first + group + i;
      sums[i] = sum<T, log, masked>(parts[i], maxima[i], row_of<T, masked>(rows, later < rows.rows ? later : first, 0));
    }
    for (int i = 0; i < count; ++i) finish<T, log, masked>(parts[i], maxima[i], sums[i]);
  }
  if (rows.streamed) end_streaming();
}

template <class T, bool log>
static void run_any_rows(const SoftmaxRows& rows) noexcept {
  if (rows.mask == nullptr) return run_rows<T, log, false>(rows);
  if (rows.mask_step != 0) return run_rows<T, log, true>(rows);
  SoftmaxRows one = rows;  // one flag for all of a row
  one.rows = 1;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    one.x = static_cast<const T*>(rows.x) + row * rows.x_stride;
    one.out = static_cast<T*>(rows.out) + row * rows.out_stride;
    if (rows.mask[row * rows.mask_stride])
      run_rows<T, log, false>(one);
    else
      __builtin_memset(one.out, 0, static_cast<unsigned long>(rows.n) * sizeof(T));
  }
}

// The passes where only the call knows whether there is a mask.
template <class T>
static double part_maximum(const SoftmaxPart& part) noexcept {
  return part.mask == nullptr ? maximum<T, false>(part) : maximum<T, true>(part);
}
template <class T, bool log>
static double part_sum(const SoftmaxPart& part, double largest) noexcept {
  const auto value = static_cast<compute_type<T>>(largest);
  return part.mask == nullptr ? sum<T, log, false>(part, value, part) : sum<T, log, true>(part, value, part);
}
template <class T, bool log>
static void part_finish(const SoftmaxPart& part, double largest, double total) noexcept {
  const auto value = static_cast<compute_type<T>>(largest), divisor = static_cast<compute_type<T>>(total);
  part.mask == nullptr ? finish<T, log, false>(part, value, divisor) : finish<T, log, true>(part, value, divisor);
}

template <class T, bool log>
inline constexpr SoftmaxKernel kernel = {run_any_rows<T, log>,
                                         {part_maximum<T>, part_sum<T, log>, part_finish<T, log>}};

extern const SoftmaxKernels softmax_kernels;
extern constinit const SoftmaxKernels softmax_kernels = {
    {kernel<float, false>, kernel<double, false>, kernel<float16, false>, kernel<bfloat16, false>},
    {kernel<float, true>, kernel<double, true>, kernel<float16, true>, kernel<bfloat16, true>},
};

}  // namespace attnlib::ATTNLIB_ISA
