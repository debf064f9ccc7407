#include "runtime/parallel.hpp"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <exception>

#include "runtime/cgroup.hpp"
#include "runtime/dispatch_record.hpp"
#include "runtime/float_environment.hpp"
#include "runtime/fresh_thread.hpp"
#include "runtime/interruption.hpp"

namespace attnlib {
namespace {

std::atomic<int> thread_count{0};

// threadpoolctl and others limit threads through omp_set_num_threads. It counts where it asks for fewer than when the
// module was loaded or set_num_threads last called: by itself the number says little, since OpenMP knows no cgroups,
// and PyTorch may have set it for its own ends if the two share a runtime.
std::atomic<int> openmp_threads_before{omp_get_max_threads()};

int threads_allowed() {
  const int openmp_threads = omp_get_max_threads();
  const bool limited = openmp_threads < openmp_threads_before.load(std::memory_order_relaxed);
  return limited ? std::min(openmp_threads, get_num_threads()) : get_num_threads();
}

}  // namespace

int default_num_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const long count = std::strtol(text, nullptr, 10);  // of a list "4,2" the first counts: the outermost level
    if (count > 0) return static_cast<int>(std::min(count, 1024L));
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int cpus = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : omp_get_num_procs();
  const double quota = cgroup_cpus().value_or(cpus);
  return std::clamp(static_cast<int>(std::ceil(std::min(quota, 1024.0))), 1, std::max(cpus, 1));
}

int get_num_threads() {
  int count = thread_count.load(std::memory_order_relaxed);
  if (count == 0) {
    count = default_num_threads();
    thread_count.store(count, std::memory_order_relaxed);
  }
  return count;
}

void set_num_threads(int count) {
  thread_count.store(count, std::memory_order_relaxed);
  openmp_threads_before.store(omp_get_max_threads(), std::memory_order_relaxed);
}

int openmp_version() { return _OPENMP; }

int threads_for(double nanoseconds) {
  constexpr double nanoseconds_worth_a_thread = 10000.0;
  const double worth = std::max(nanoseconds / nanoseconds_worth_a_thread, 1.0);
  return static_cast<int>(std::min(worth, static_cast<double>(get_num_threads())));
}

void detail::run_tasks(std::int64_t count, int threads, void (*body)(void*, std::int64_t), void* context) {
  const int allowed = threads_allowed();
  const int limit = threads > 0 ? std::min(threads, allowed) : allowed;
  const int used = static_cast<int>(std::min<std::int64_t>(limit, count));
  if (omp_in_parallel() != 0) {  // the region around the call looks for interruptions, and has set the environment
    for (std::int64_t task = 0; task < count; ++task) body(context, task);
    return;
  }
  if (used <= 1) {
    const FloatEnvironment environment;
    for (std::int64_t task = 0; task < count; ++task) {
      body(context, task);
      interruption_point();
    }
    return;
  }
  dispatch_record().threads = std::max(dispatch_record().threads, used);
  // Either ends the call early: tasks that have not begun are passed over. An exception that left the region would end
  // the process; the first is thrown again by the calling thread.
  std::atomic<bool> interrupted{false}, failed{false};
  std::exception_ptr failure;
  const auto look_around = [&] {
    if (interruption_due()) interrupted.store(true, std::memory_order_relaxed);
  };
  const auto region = [&] {
#pragma omp parallel for schedule(dynamic, 1) num_threads(used)
    for (std::int64_t task = 0; task < count; ++task) {
      if (interrupted.load(std::memory_order_relaxed) || failed.load(std::memory_order_relaxed)) continue;
      const FloatEnvironment environment;
      try {
        body(context, task);
      } catch (...) {
        if (!failed.exchange(true)) failure = std::current_exception();
      }
      look_around();
    }
  };
  if (came_through_fork())
    on_fresh_thread(region, look_around);
  else
    region();
  if (failure) std::rethrow_exception(failure);
  if (interrupted.load(std::memory_order_relaxed)) throw Interrupted();
}

}  // namespace attnlib
