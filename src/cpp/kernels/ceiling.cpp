#include "kernels/ceiling.hpp"

#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {
namespace {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int chains = 16;
#else
constexpr int chains = 12;
#endif

// The value must be in a register here, and may have become another one.
template <class Register>
ATTNLIB_INLINE void keep_in_register(Register& value) {
#if defined(__x86_64__)
  asm volatile("" : "+v"(value));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(value));
#else
  asm volatile("" : "+m"(value));
#endif
}

// `steps` times `step` on each chain; the operations that this did, at `operations` an instruction.
template <class Register, class Step>
ATTNLIB_INLINE double run_chains(std::int64_t steps, Register start, int operations, Step step) {
  Register chain[chains];
#pragma GCC unroll 16
  for (int i = 0; i < chains; ++i) {
    chain[i] = start;
    keep_in_register(chain[i]);
  }
  for (std::int64_t done = 0; done < steps; ++done) {
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) {
      chain[i] = step(chain[i]);
      keep_in_register(chain[i]);
    }
  }
  return static_cast<double>(steps) * chains * operations;
}

double multiply_add(std::int64_t steps) noexcept {
  vec<float> factor = broadcast<float>(0.5f), addend = broadcast<float>(1.0f);
  keep_in_register(factor);
  keep_in_register(addend);
  return run_chains(steps, addend, 2 * lanes<float>, [=](vec<float> chain) { return fma(chain, factor, addend); });
}

double dot_bfloat16([[maybe_unused]] std::int64_t steps) noexcept {
#if defined(ATTNLIB_DOT_BFLOAT16)
  u32v one = 0x3f803f80u + u32v{};  // 1 and 1
  keep_in_register(one);
  return run_chains(steps, broadcast<float>(0.0f), 4 * lanes<float>,
                    [=](vec<float> chain) { return dot_pairs(chain, one, one); });
#else
  return 0;
#endif
}

double dot_int8([[maybe_unused]] std::int64_t steps) noexcept {
#if defined(__AVX512VNNI__)
  u32v one = 0x01010101u + u32v{};  // four bytes
  keep_in_register(one);
  return run_chains(steps, u32v{}, 8 * lanes<float>, [=](u32v chain) {
    asm("vpdpbusd %1, %1, %0" : "+v"(chain) : "v"(one));
    return chain;
  });
#else
  return 0;
#endif
}

double read(const float* data, std::int64_t count, std::int64_t times) noexcept {
  constexpr int registers = 8, width = registers * lanes<float>;
  const std::int64_t whole = count / width * width;
  vec<float> sum[registers];
#pragma GCC unroll 8
  for (int i = 0; i < registers; ++i) sum[i] = zero<float>();
  for (std::int64_t time = 0; time < times; ++time) {
    for (std::int64_t start = 0; start < whole; start += width) {
#pragma GCC unroll 8
      for (int i = 0; i < registers; ++i) sum[i] += load(data + start + i * lanes<float>);
    }
    asm volatile("" ::: "memory");  // what was read last time may have changed
  }
#pragma GCC unroll 8
  for (int i = 0; i < registers; ++i) keep_in_register(sum[i]);
  return static_cast<double>(whole) * sizeof(float) * static_cast<double>(times);
}

}  // namespace

extern constinit const CeilingKernels ceiling_kernels = {multiply_add, dot_bfloat16, dot_int8, read};

}  // namespace attnlib::ATTNLIB_ISA
