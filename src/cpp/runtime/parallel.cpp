#include "runtime/parallel.hpp"

#include <omp.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>

#include "runtime/dispatch_record.hpp"

namespace attnlib {
namespace {

// CPUs granted by the cgroup's quota (version 2, then version 1), or `limit` when there is none.
int cgroup_cpus(int limit) {
  double quota = -1.0, period = 0.0;
  std::ifstream unified("/sys/fs/cgroup/cpu.max");
  std::string first;
  if (unified >> first >> period) {
    if (first != "max") quota = std::strtod(first.c_str(), nullptr);
  } else {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  if (quota <= 0.0 || period <= 0.0) return limit;
  return std::clamp(static_cast<int>(std::ceil(quota / period)), 1, limit);
}

// Threads do not survive fork(), but libgomp's record of its pool does: a parallel region in the child would wait for
// threads that no longer exist. The child of a process that forked runs on its one thread.
std::atomic<bool> forked{false};
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });

std::atomic<int> thread_count{0};

}  // namespace

int default_num_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const long count = std::strtol(text, nullptr, 10);  // of a list "4,2" the first counts: the outermost level
    if (count > 0) return static_cast<int>(std::min(count, 1024L));
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int cpus = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : omp_get_num_procs();
  return cgroup_cpus(std::max(cpus, 1));
}

int get_num_threads() {
  int count = thread_count.load(std::memory_order_relaxed);
  if (count == 0) {
    count = default_num_threads();
    thread_count.store(count, std::memory_order_relaxed);
  }
  return count;
}

void set_num_threads(int count) { thread_count.store(count, std::memory_order_relaxed); }

int openmp_version() { return _OPENMP; }

int threads_for(double nanoseconds) {
  constexpr double nanoseconds_worth_a_thread = 10000.0;
  const double worth = std::max(nanoseconds / nanoseconds_worth_a_thread, 1.0);
  return static_cast<int>(std::min(worth, static_cast<double>(get_num_threads())));
}

void detail::run_tasks(std::int64_t count, int threads, void (*body)(void*, std::int64_t), void* context) {
  const int limit = threads > 0 ? std::min(threads, get_num_threads()) : get_num_threads();
  const int used = static_cast<int>(std::min<std::int64_t>(limit, count));
  if (used <= 1 || omp_in_parallel() != 0 || forked.load(std::memory_order_relaxed)) {
    for (std::int64_t task = 0; task < count; ++task) body(context, task);
    return;
  }
  dispatch_record().threads = std::max(dispatch_record().threads, used);
  // An exception that left the region would end the process: the first is thrown again by the calling thread, and
  // tasks that have not begun are passed over.
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
#pragma omp parallel for schedule(dynamic, 1) num_threads(used)
  for (std::int64_t task = 0; task < count; ++task) {
    if (failed.load(std::memory_order_relaxed)) continue;
    try {
      body(context, task);
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace attnlib
