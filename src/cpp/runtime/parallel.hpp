// The only user of OpenMP. Outputs are partitioned over tasks, reductions never are, so the number of threads cannot
// change a bit of a result.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

#include "attnlib/runtime.hpp"

namespace attnlib {

// The CPUs this process may really use: its affinity mask, cut by the cgroup's CPU quota. OMP_NUM_THREADS wins.
int default_num_threads();

// The OpenMP version macro (such as 201511) the library was compiled with.
int openmp_version();

// Where a member's share of `count` begins; that of the next one ends it.
inline std::int64_t share_begin(std::int64_t count, std::int64_t member, std::int64_t members) {
  return count * member / members;
}

enum class TaskOrder {
  shares,   // each thread begins with neighbours: what it fetches ahead is its own, its caches hold what they held
            // in the call before
  in_turn,  // from the first task to the last: for tasks of which the first take the longest
};

namespace detail {
void run_tasks(std::int64_t count, int threads, TaskOrder order, void (*body)(void* context, std::int64_t task),
               void* context);
void run_phases(std::int64_t count, int threads,
                void (*body)(void* context, std::int64_t phase, std::int64_t member, std::int64_t members),
                void* context);
}  // namespace detail

// Calls body(task) for every task of 0..count-1, on at most `threads` threads (0: as many as set_num_threads allows);
// threads take the next task when they are done with one, at last those of others. The caller's thread takes part, and
// does all of it when there is one task, one thread, or a parallel region around the call already. What a task throws
// is thrown here, once every task that had begun is done; which of the others were done is then not known. Throws
// Interrupted if the caller's thread is told to end the call (runtime/interruption.hpp).
template <class Body>
void parallel_for(std::int64_t count, int threads, Body&& body, TaskOrder order = TaskOrder::shares) {
  using Plain = std::remove_reference_t<Body>;
  detail::run_tasks(
      count, threads, order, [](void* context, std::int64_t task) { (*static_cast<Plain*>(context))(task); },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

// Calls body(phase, member, members) for every phase of 0..count-1 on each of at most `threads` threads, which wait for
// each other after every phase: for many short phases, each of which reads what all threads have made in the one
// before. Whether there are one, several or fewer threads than asked for, each has its share by `member` of `members`.
// Exceptions and Interrupted as for parallel_for; phases after the one that threw are passed over.
template <class Body>
void parallel_phases(std::int64_t count, int threads, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  detail::run_phases(
      count, threads,
      [](void* context, std::int64_t phase, std::int64_t member, std::int64_t members) {
        (*static_cast<Plain*>(context))(phase, member, members);
      },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

// The number of threads worth waking for this much work (in nanoseconds of one core, roughly): waking one costs a few
// microseconds.
int threads_for(double nanoseconds);

}  // namespace attnlib
