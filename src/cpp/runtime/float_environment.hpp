// The floating-point environment that all computing is done in, whatever the caller's thread was set to: round to
// nearest, nothing traps, and subnormal numbers count as zero, as inputs (DAZ) and as results (FTZ). On many CPUs an
// operation that meets a subnormal number takes a hundred times as long, and the tail of a softmax is full of them; and
// a worker thread has the environment of whoever started it, so that results would depend on which thread computed
// them. What float16 calls subnormal is an ordinary float32 here and is kept.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <cfenv>
#endif

namespace attnlib {

// Ours while it lives; then the caller's as it was found, its exception flags included. A few nanoseconds.
class FloatEnvironment {
 public:
  enum class Kind { computing, standard };  // standard: what a process starts with, for code that is not ours

  explicit FloatEnvironment(Kind kind = Kind::computing) : callers_(current()) { set(of(kind)); }
  ~FloatEnvironment() { set(callers_); }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
#if defined(__x86_64__)
  using State = unsigned;  // MXCSR
  static State current() { return _mm_getcsr(); }
  static void set(State state) { _mm_setcsr(state); }
  static State of(Kind kind) { return kind == Kind::computing ? 0x9fc0u : 0x1f80u; }
#elif defined(__aarch64__)
  struct State {
    std::uint64_t control, status;  // FPCR, FPSR
  };
  static State current() {
    State state;
    asm volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(state.control), "=r"(state.status));
    return state;
  }
  static void set(State state) {
    asm volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(state.control), "r"(state.status) : "memory");
  }
  static State of(Kind kind) { return {kind == Kind::computing ? std::uint64_t{1} << 24 : 0, 0}; }
#else
  using State = std::fenv_t;  // has no word for subnormal numbers
  static State current() {
    State state;
    std::fegetenv(&state);
    return state;
  }
  static void set(const State& state) { std::fesetenv(&state); }
  static State of(Kind) { return *FE_DFL_ENV; }
#endif

  State callers_;
};

}  // namespace attnlib
