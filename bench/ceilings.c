/* What one core of this machine can do at most: fused multiply-adds per second, and bytes read per second.
 *
 * Built by ceilings.py for the CPU at hand (-O3 -march=native), and called through ctypes from as many threads as the
 * benchmark uses. GNU vector types stand for whole registers; -ffp-contract=fast, GCC's default, makes a*b+c one FMA.
 */
#include <stddef.h>

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

/* Independent accumulators: an FMA takes 4 or 5 cycles and two (Arm: up to four) start in each, so 8 to 16 must be in
 * flight. With the two operands below they fit the registers: 32 of them with AVX-512 and on Arm, else 16. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define CHAINS 16
#else
#define CHAINS 12
#endif

typedef float vector __attribute__((vector_size(BYTES)));
typedef vector unaligned_vector __attribute__((aligned(4), may_alias));

/* Floating-point operations of one step of fma_steps. */
long fma_flops_per_step(void) { return 2L * CHAINS * (BYTES / (long)sizeof(float)); }

/* `steps` FMAs on each of CHAINS registers; the result keeps the compiler from leaving them out. */
float fma_steps(long steps) {
  vector factor, addend, chain[CHAINS];
  for (size_t lane = 0; lane < BYTES / sizeof(float); ++lane) {
    factor[lane] = 0.5f; /* the chains settle at 2: no denormals, no infinities */
    addend[lane] = 1.0f;
  }
#pragma GCC unroll 16
  for (int i = 0; i < CHAINS; ++i) chain[i] = addend * (float)i;
  for (long step = 0; step < steps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; ++i) chain[i] = chain[i] * factor + addend;
    /* Each chain must be in a register here: nothing can be folded over the steps, or kept in memory. */
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; ++i)
#if defined(__x86_64__)
      __asm__ volatile("" : "+v"(chain[i]));
#else
      __asm__ volatile("" : "+w"(chain[i]));
#endif
  }
  vector total = chain[0];
#pragma GCC unroll 16
  for (int i = 1; i < CHAINS; ++i) total += chain[i];
  return total[0];
}

/* Read `count` floats in order, `times` times, into eight independent sums; the hardware's prefetcher runs ahead by
 * itself. */
float read_floats(const float* data, long count, long times) {
  enum { LANES = BYTES / sizeof(float), REGISTERS = 8, STEP = LANES * REGISTERS };
  vector sum[REGISTERS];
#pragma GCC unroll 8
  for (int i = 0; i < REGISTERS; ++i) sum[i] = (vector){0};
  for (long time = 0; time < times; ++time) {
    for (long start = 0; start + STEP <= count; start += STEP) {
#pragma GCC unroll 8
      for (int i = 0; i < REGISTERS; ++i) sum[i] += *(const unaligned_vector*)(data + start + i * LANES);
    }
    __asm__ volatile("" ::: "memory"); /* what was read last time may have changed */
  }
  vector total = sum[0];
#pragma GCC unroll 8
  for (int i = 1; i < REGISTERS; ++i) total += sum[i];
  return total[0];
}
