#include "kernels/matmul.hpp"

#include "kernels/matmul_parts.hpp"
#include "kernels/matmul_tile.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

// A times a panel of P, both in the compute type C; P may be float16, widened as it is loaded.
template <class C, class P>
struct PlainProduct {
  using Left = C;
  using Unit = P;
  using Units = vec<C>;
  using Sum = vec<C>;
  using SumElement = C;
  static constexpr int rows = product_rows;
  ATTNLIB_INLINE vec<C> load_left(const C* left) { return broadcast<C>(*left); }
  ATTNLIB_INLINE vec<C> load_units(const P* units) { return load(units); }
  ATTNLIB_INLINE vec<C> add(vec<C> sum, vec<C> left, vec<C> units) { return fma(left, units, sum); }
};

struct FloatPair {
  float first, second;
};
using BytePair = std::uint32_t;

// float32 rows times panels of bfloat16 pairs, widened as they are loaded: the sums of PlainProduct<float, float>.
struct WideningProduct {
  struct Pair {
    vec<float> first, second;
  };
  using Left = FloatPair;
  using Unit = BytePair;
  using Units = Pair;
  using Sum = vec<float>;
  using SumElement = float;
  static constexpr int rows = product_rows > 4 ? product_rows - 2 : product_rows;  // room for the wide panel vectors
  ATTNLIB_INLINE Pair load_left(const FloatPair* left) {
    return {broadcast<float>(left->first), broadcast<float>(left->second)};
  }
  ATTNLIB_INLINE Pair load_units(const BytePair* units) {
    const u32v pairs = load_pairs(units);
    return {first_of_pairs(pairs), second_of_pairs(pairs)};
  }
  ATTNLIB_INLINE vec<float> add(vec<float> sum, const Pair& left, const Pair& units) {
    return fma(left.second, units.second, fma(left.first, units.first, sum));
  }
};

#if defined(ATTNLIB_DOT_BFLOAT16)
// Pairs of bfloat16 on both sides, by the dot-product instruction.
struct DotProduct {
  using Left = BytePair;
  using Unit = BytePair;
  using Units = u32v;
  using Sum = vec<float>;
  using SumElement = float;
  static constexpr int rows = product_rows;
  ATTNLIB_INLINE u32v load_left(const BytePair* left) {
    return broadcast_pair(reinterpret_cast<const bfloat16*>(left));  // rows may begin at odd elements
  }
  ATTNLIB_INLINE u32v load_units(const BytePair* units) { return load_pairs(units); }
  ATTNLIB_INLINE vec<float> add(vec<float> sum, u32v left, u32v units) { return dot_pairs(sum, left, units); }
};
#endif

template <class T, class Arithmetic>
void multiply(const MatmulBlock* block) noexcept {
  using C = compute_type<T>;
  multiply_block<T, Arithmetic, true>(*block, PlainValues<C>());
}

// Rows of T as rows of the compute type, padded to an even length for the pairs of bfloat16 panels.
template <class T>
void widen_rows(const MatmulRows* arguments) noexcept {
  const MatmulRows& task = *arguments;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const T* source = static_cast<const T*>(task.source) + row * task.source_stride;
    float* target = static_cast<float*>(task.target) + row * task.target_stride;
    for (std::int64_t i = task.depth; i < task.target_stride; ++i) target[i] = 0.0f;
    std::int64_t i = 0;
    for (; i + lanes<float> <= task.depth; i += lanes<float>) store(target + i, load(source + i));
    const int left = static_cast<int>(task.depth - i);
    if (left > 0) store_partial(target + i, load_partial(source + i, left), left);
  }
}

#if defined(ATTNLIB_DOT_BFLOAT16)
// Rows of odd length: their last pair needs a zero.
void pad_rows(const MatmulRows* arguments) noexcept {
  const MatmulRows& task = *arguments;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const bfloat16* source = static_cast<const bfloat16*>(task.source) + row * task.source_stride;
    bfloat16* target = static_cast<bfloat16*>(task.target) + row * task.target_stride;
    __builtin_memcpy(target, source, static_cast<std::uint64_t>(task.depth) * sizeof(bfloat16));
    for (std::int64_t i = task.depth; i < task.target_stride; ++i) target[i] = bfloat16{0};
  }
}
constexpr MultiplyFunction bfloat16_multiply = multiply<bfloat16, DotProduct>;
constexpr StageFunction bfloat16_stage = pad_rows;
constexpr bool bfloat16_dot = true;
#else
constexpr MultiplyFunction bfloat16_multiply = nullptr;
constexpr StageFunction bfloat16_stage = nullptr;
constexpr bool bfloat16_dot = false;
#endif

// y[n] = a[k] b[k][n] + y[n] with k rising: Steps rows of b at a time, so that y comes and goes once for all of them.
template <class C, int Rows, int Steps>
ATTNLIB_INLINE void add_rows(const MatmulRowMajor& task, std::int64_t k) {
  const C* a = static_cast<const C*>(task.a) + k;
  const C* b = static_cast<const C*>(task.b) + k * task.b_stride;
  C* out = static_cast<C*>(task.out);
  vec<C> value[Rows][Steps];
  for (int row = 0; row < Rows; ++row)
    for (int step = 0; step < Steps; ++step) value[row][step] = broadcast<C>(a[row * task.a_stride + step]);
  const auto update = [&](std::int64_t n, auto load_lanes, auto store_lanes) __attribute__((always_inline)) {
    vec<C> units[Steps];
    for (int step = 0; step < Steps; ++step) units[step] = load_lanes(b + step * task.b_stride + n);
    for (int row = 0; row < Rows; ++row) {
      C* place = out + row * task.out_stride + n;
      vec<C> sum = k == 0 ? zero<C>() : load_lanes(place);
      for (int step = 0; step < Steps; ++step) sum = fma(value[row][step], units[step], sum);
      store_lanes(place, sum);
    }
  };
  std::int64_t n = 0;
  for (; n + lanes<C> <= task.columns; n += lanes<C>)
    update(
        n, [](const C* p) __attribute__((always_inline)) { return load(p); },
        [](C* p, vec<C> v) __attribute__((always_inline)) { store(p, v); });
  const int left = static_cast<int>(task.columns - n);
  if (left > 0)
    update(
        n, [=](const C* p) __attribute__((always_inline)) { return load_partial(p, left); },
        [=](C* p, vec<C> v) __attribute__((always_inline)) { store_partial(p, v, left); });
}

template <class C, int Rows>
void multiply_few_rows(const MatmulRowMajor& task) {
  constexpr int steps = Rows > 2 ? 4 : 8;
  std::int64_t k = 0;
  for (; k + steps <= task.depth; k += steps) add_rows<C, Rows, steps>(task, k);
  for (; k < task.depth; ++k) add_rows<C, Rows, 1>(task, k);
}

template <class C>
void multiply_row_major(const MatmulRowMajor* arguments) noexcept {
  MatmulRowMajor task = *arguments;
  for (std::int64_t row = 0; row < arguments->rows; row += 4) {
    task.a = static_cast<const C*>(arguments->a) + row * task.a_stride;
    task.out = static_cast<C*>(arguments->out) + row * task.out_stride;
    switch (arguments->rows - row) {
      case 1:
        multiply_few_rows<C, 1>(task);
        break;
      case 2:
        multiply_few_rows<C, 2>(task);
        break;
      case 3:
        multiply_few_rows<C, 3>(task);
        break;
      default:
        multiply_few_rows<C, 4>(task);
    }
  }
}

}  // namespace

extern const MatmulKernels matmul_kernels;
constinit const MatmulKernels matmul_kernels = {
    .panel_width = {panel_width<float>, panel_width<double>},
    .tile_rows = {product_rows, product_rows},
    .has_bfloat16_dot = bfloat16_dot,
    // kinds: float32, float64, float16, bfloat16, bfloat16_dot, int8, int4
    .multiply =
        {
            {multiply<float, PlainProduct<float, float>>, nullptr, multiply<float, PlainProduct<float, float16>>,
             multiply<float, WideningProduct>, nullptr, multiply_int8<float>, multiply_int4<float>},
            {nullptr, multiply<double, PlainProduct<double, double>>, nullptr, nullptr, nullptr, nullptr, nullptr},
            {multiply<float16, PlainProduct<float, float>>, nullptr, multiply<float16, PlainProduct<float, float16>>,
             nullptr, nullptr, multiply_int8<float16>, multiply_int4<float16>},
            {multiply<bfloat16, PlainProduct<float, float>>, nullptr, nullptr, multiply<bfloat16, WideningProduct>,
             bfloat16_multiply, multiply_int8<bfloat16>, multiply_int4<bfloat16>},
        },
    .pack =
        {
            {pack<float, float>, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr},
            {nullptr, pack<double, double>, nullptr, nullptr, nullptr, nullptr, nullptr},
            {pack<float16, float>, nullptr, pack<float16, float16>, nullptr, nullptr, nullptr, nullptr},
            {pack<bfloat16, float>, nullptr, nullptr, pack_pairs, pack_pairs, nullptr, nullptr},
        },
    .stage =
        {
            {nullptr, nullptr, nullptr, widen_rows<float>, nullptr, stage_int8<float>, stage_int4<float>},
            {nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr},
            {widen_rows<float16>, nullptr, widen_rows<float16>, nullptr, nullptr, stage_int8<float16>,
             stage_int4<float16>},
            {widen_rows<bfloat16>, nullptr, nullptr, widen_rows<bfloat16>, bfloat16_stage, stage_int8<bfloat16>,
             stage_int4<bfloat16>},
        },
    .multiply_row_major = {multiply_row_major<float>, multiply_row_major<double>},
};

}  // namespace attnlib::ATTNLIB_ISA
