// A moment in a loop that waits for memory to change: it leaves the core to the other thread on it.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace attnlib {

inline void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb");
#endif
}

}  // namespace attnlib
