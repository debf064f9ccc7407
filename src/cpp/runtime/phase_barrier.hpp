// Where threads of one region wait for each other between two phases.
//
// OpenMP's own barrier goes to sleep after a microsecond where its runtime keeps more threads than there are CPUs,
// which is so wherever two threads of a process, of another library that shares the runtime, say, have ever had regions
// of their own. A phase is then over before who slept has come.
#pragma once

#include <algorithm>
#include <atomic>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace attnlib {

// A moment in a loop that waits for memory to change: it leaves the core to the other thread on it.
inline void pause_briefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb");
#endif
}

class PhaseBarrier {
 public:
  // What one thread knows of the barrier.
  class Member {
   public:
    Member(PhaseBarrier& barrier, int members) : barrier_(barrier), members_(members) {}

    // Returns once all members have called it as often.
    void wait() {
      const int phase = barrier_.phase_.load(std::memory_order_relaxed);  // cannot change before this one has arrived
      if (barrier_.arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
        barrier_.arrived_.store(0, std::memory_order_relaxed);
        // Sequentially consistent: notify_all looks for sleepers, and must not look before the phase is seen.
        barrier_.phase_.store(phase + 1, std::memory_order_seq_cst);
        barrier_.phase_.notify_all();
        return;
      }
      for (int i = 0; i < patience_; ++i) {
        if (barrier_.phase_.load(std::memory_order_acquire) != phase) {
          patience_ = most_patience;
          return;
        }
        pause_briefly();
      }
      // Late ones have perhaps no CPU: spinning would keep them from this one.
      patience_ = std::max(patience_ / 2, least_patience);
      barrier_.phase_.wait(phase, std::memory_order_acquire);
    }

   private:
    // In pauses, of which one takes 40 to 140 cycles: half a millisecond at most. Who sleeps is woken 50 microseconds
    // late in a virtual machine, and by then the other one sleeps, too: it pays to be patient.
    static constexpr int most_patience = 20000, least_patience = 500;

    PhaseBarrier& barrier_;
    int members_;
    int patience_ = most_patience;
  };

 private:
  // On lines of their own: those who wait read the one while others write the other.
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
};

}  // namespace attnlib
