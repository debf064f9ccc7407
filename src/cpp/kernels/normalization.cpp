#include "kernels/normalization.hpp"

#include "kernels/row_vectors.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {

ATTNLIB_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
ATTNLIB_INLINE double square_root(double x) { return __builtin_sqrt(x); }

// Whether the first pass leaves a row in scratch memory: one of a narrower type, or a sum.
template <class T, bool residual>
inline constexpr bool staged = residual || sizeof(T) != sizeof(compute_type<T>);

// The elements as the first pass leaves them.
template <class T, bool residual>
ATTNLIB_INLINE const compute_type<T>* first_pass(const NormPart& part) {
  return static_cast<const compute_type<T>*>(staged<T, residual> ? part.scratch : part.x);
}

// Sums term(value) over the part, by parts of row_part; `first`: reads the inputs, and stages them.
template <class T, bool residual, bool first, class Term>
ATTNLIB_INLINE compute_type<T> add_up(const NormPart& part, Term term) {
  using C = compute_type<T>;
  const T* x = static_cast<const T*>(part.x);
  const T* other = static_cast<const T*>(part.residual);
  C* scratch = static_cast<C*>(part.scratch);
  C total = 0;
  for_each_part(part.n, [&](std::int64_t begin, std::int64_t length) __attribute__((always_inline)) {
    vec<C> chain[row_chains] = {};
    for_each_vector<C>(length, [&](std::int64_t offset, int count, int k) __attribute__((always_inline)) {
      const std::int64_t i = begin + offset;
      vec<C> value;
      if constexpr (first) {
        value = load_lanes(x + i, count);
        if constexpr (residual) value += load_lanes(other + i, count);
        if constexpr (staged<T, residual>) store_lanes(scratch + i, value, count);
      } else {
        value = load_lanes(first_pass<T, residual>(part) + i, count);
      }
      chain[k] = term(chain[k], value, count);
    });
    total += sum_chains<C>(chain);
  });
  return total;
}

template <class T, bool residual>
ATTNLIB_INLINE compute_type<T> sum(const NormPart& part) {
  using C = compute_type<T>;
  return add_up<T, residual, true>(
      part, [](vec<C> sum, vec<C> value, int) __attribute__((always_inline)) { return sum + value; });
}

template <class T, bool residual, bool first>
ATTNLIB_INLINE compute_type<T> squares(const NormPart& part, compute_type<T> centre) {
  using C = compute_type<T>;
  return add_up<T, residual, first>(part, [=](vec<C> sum, vec<C> value, int count) __attribute__((always_inline)) {
    const vec<C> centred = pad_lanes<C>(value - broadcast<C>(centre), count, C{0});
    return fma(centred, centred, sum);
  });
}

// (row - centre) * scale * weight + bias
template <class T, bool streamed>
ATTNLIB_INLINE void finish_row(const NormPart& part, const compute_type<T>* row, compute_type<T> centre,
                               compute_type<T> scale) {
  using C = compute_type<T>;
  const T* weight = static_cast<const T*>(part.weight);
  const T* bias = static_cast<const T*>(part.bias);
  T* out = static_cast<T*>(part.out);
  const auto normed = [&](std::int64_t i, int count) __attribute__((always_inline)) {
    return (load_lanes(row + i, count) - broadcast<C>(centre)) * broadcast<C>(scale);
  };
  if (weight != nullptr && bias != nullptr)
    for_each_vector<C>(part.n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      const vec<C> scaled = fma(normed(i, count), load_lanes(weight + i, count), load_lanes(bias + i, count));
      store_result<streamed>(out + i, scaled, count);
    });
  else if (weight != nullptr)
    for_each_vector<C>(part.n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_result<streamed>(out + i, normed(i, count) * load_lanes(weight + i, count), count);
    });
  else if (bias != nullptr)
    for_each_vector<C>(part.n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_result<streamed>(out + i, normed(i, count) + load_lanes(bias + i, count), count);
    });
  else
    for_each_vector<C>(part.n, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
      store_result<streamed>(out + i, normed(i, count), count);
    });
}

template <class T>
ATTNLIB_INLINE void finish_row_here(const NormPart& part, const compute_type<T>* row, compute_type<T> centre,
                                    compute_type<T> scale, bool streamed) {
  streamed ? finish_row<T, true>(part, row, centre, scale) : finish_row<T, false>(part, row, centre, scale);
}

template <class T>
__attribute__((noinline)) static void finish_row_apart(const NormPart& part, const compute_type<T>* row,
                                                       compute_type<T> centre, compute_type<T> scale, bool streamed) {
  finish_row_here<T>(part, row, centre, scale, streamed);
}

// Types that are widened apart: their eight loops are so much code that, repeated in all norms, they were a tenth of
// the library. float32 would take 1.02 to 1.04 times as long for rows of 768, 1.08 times for rows of 64.
template <class T, bool residual>
ATTNLIB_INLINE void finish(const NormPart& part, compute_type<T> centre, compute_type<T> scale, bool streamed) {
  const auto* row = first_pass<T, residual>(part);
  if constexpr (sizeof(T) == sizeof(compute_type<T>))
    finish_row_here<T>(part, row, centre, scale, streamed);
  else
    finish_row_apart<T>(part, row, centre, scale, streamed);
}

template <class T, bool centred, bool residual>
static void run_rows(const NormRows& rows) noexcept {
  using C = compute_type<T>;
  const C n = static_cast<C>(rows.n);
  const int group = rows_in_group(rows.n, rows.group_elements);
  for (std::int64_t first = 0; first < rows.rows; first += group) {
    const int count = rows.rows - first < group ? static_cast<int>(rows.rows - first) : group;
    NormPart parts[row_group_rows];
    C centres[row_group_rows], scales[row_group_rows];
    for (int i = 0; i < count; ++i) {
      const std::int64_t row = first + i;
      parts[i] = {.x = static_cast<const T*>(rows.x) + row * rows.x_stride,
                  .residual = residual ? static_cast<const T*>(rows.residual) + row * rows.residual_stride : nullptr,
                  .weight = rows.weight,
                  .bias = rows.bias,
                  .out = static_cast<T*>(rows.out) + row * rows.out_stride,
                  .scratch = static_cast<C*>(rows.scratch) + i * rows.n,
                  .n = rows.n};
      centres[i] = centred ? sum<T, residual>(parts[i]) / n : C{0};
    }
    for (int i = 0; i < count; ++i) {
      const C variance = squares<T, residual, !centred>(parts[i], centres[i]) / n;
      scales[i] = C{1} / square_root(variance + static_cast<C>(rows.eps));
    }
    for (int i = 0; i < count; ++i) finish<T, residual>(parts[i], centres[i], scales[i], rows.streamed);
  }
  if (rows.streamed) end_streaming();
}

template <class T, bool centred>
static void run_any_rows(const NormRows& rows) noexcept {
  rows.residual == nullptr ? run_rows<T, centred, false>(rows) : run_rows<T, centred, true>(rows);
}

// The passes where only the call knows whether there is a residual.
template <class T>
static double part_sum(const NormPart& part) noexcept {
  return part.residual == nullptr ? sum<T, false>(part) : sum<T, true>(part);
}
template <class T, bool centred>
static double part_squares(const NormPart& part, double centre) noexcept {
  const auto value = static_cast<compute_type<T>>(centre);
  return part.residual == nullptr ? squares<T, false, !centred>(part, value) : squares<T, true, !centred>(part, value);
}
template <class T>
static void part_finish(const NormPart& part, double centre, double scale) noexcept {
  const auto shift = static_cast<compute_type<T>>(centre), factor = static_cast<compute_type<T>>(scale);
  part.residual == nullptr ? finish<T, false>(part, shift, factor, false) : finish<T, true>(part, shift, factor, false);
}

template <class T, bool centred>
inline constexpr NormKernel kernel = {run_any_rows<T, centred>,
                                      {centred ? part_sum<T> : nullptr, part_squares<T, centred>, part_finish<T>}};

extern const NormalizationKernels normalization_kernels;
extern constinit const NormalizationKernels normalization_kernels = {
    {kernel<float, true>, kernel<double, true>, kernel<float16, true>, kernel<bfloat16, true>},
    {kernel<float, false>, kernel<double, false>, kernel<float16, false>, kernel<bfloat16, false>},
};

}  // namespace attnlib::ATTNLIB_ISA
