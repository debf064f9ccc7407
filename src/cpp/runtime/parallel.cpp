#include "runtime/parallel.hpp"

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <limits>

#include "runtime/cgroup.hpp"
#include "runtime/dispatch_record.hpp"
#include "runtime/float_environment.hpp"
#include "runtime/fresh_thread.hpp"
#include "runtime/interruption.hpp"
#include "runtime/phase_barrier.hpp"

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

namespace {

int threads_used(int wanted, std::int64_t most) {
  const int allowed = threads_allowed();
  return static_cast<int>(std::min<std::int64_t>(wanted > 0 ? std::min(wanted, allowed) : allowed, most));
}

// Why a region ends before its time: it was interrupted, or a task failed. An exception that left the region would end
// the process; the first is thrown again by the calling thread.
class EarlyEnd {
 public:
  bool due() const { return interrupted_.load(std::memory_order_relaxed) || failed_.load(std::memory_order_relaxed); }
  // Not asked again after a yes: Python's handlers must not run while the exception of the first is set.
  void look_around() {
    if (!due() && interruption_due()) interrupted_.store(true, std::memory_order_relaxed);
  }
  template <class Body>
  void attempt(Body&& body) {
    try {
      body();
    } catch (...) {
      if (!failed_.exchange(true)) failure_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (interrupted_.load(std::memory_order_relaxed)) throw Interrupted();
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  std::atomic<bool> interrupted_{false}, failed_{false};
  std::exception_ptr failure_;
};

// The tasks that each thread begins with, and from which others take the next one when they are done with theirs.
class Shares {
 public:
  Shares(std::int64_t tasks, int count)
      : count_(count), shares_(std::make_unique<Share[]>(static_cast<std::size_t>(count))) {
    for (int i = 0; i < count; ++i) {
      shares_[i].next.store(share_begin(tasks, i, count), std::memory_order_relaxed);
      shares_[i].end = share_begin(tasks, i + 1, count);
    }
  }
  // What falls to a thread: act(task), until that says no.
  template <class Act>
  void work(int member, int members, Act&& act) {
    const int own = static_cast<int>(share_begin(count_, member, members));
    for (int i = 0; i < count_; ++i) {
      Share& share = shares_[(own + i) % count_];
      // Looked at first: all come by shares that are done, and who only reads leaves the line to the others.
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const std::int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
        if (task >= share.end) break;
        if (!act(task)) return;
      }
    }
  }

 private:
  struct alignas(64) Share {
    std::atomic<std::int64_t> next;
    std::int64_t end;
  };
  int count_;
  std::unique_ptr<Share[]> shares_;
};

template <class Region>
void run_region(const Region& region, EarlyEnd& end, int threads) {
  dispatch_record().threads = std::max(dispatch_record().threads, threads);
  if (came_through_fork())
    on_fresh_thread(region, [&] { end.look_around(); });
  else
    region();
  end.rethrow();
}

}  // namespace

void detail::run_tasks(std::int64_t count, int threads, TaskOrder order, void (*body)(void*, std::int64_t),
                       void* context) {
  const int used = threads_used(threads, count);
  if (omp_in_parallel() != 0) {  // ours, which looks for interruptions, or one of a C++ caller
    const FloatEnvironment environment;
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
  EarlyEnd end;
  Shares shares(count, order == TaskOrder::shares ? used : 1);
  const auto region = [&] {
#pragma omp parallel num_threads(used)
    {
      const FloatEnvironment environment;
      shares.work(omp_get_thread_num(), omp_get_num_threads(), [&](std::int64_t task) {
        if (end.due()) return false;
        end.attempt([&] { body(context, task); });
        end.look_around();
        return true;
      });
    }
  };
  run_region(region, end, used);
}

void detail::run_phases(std::int64_t count, int threads, void (*body)(void*, std::int64_t, std::int64_t, std::int64_t),
                        void* context) {
  if (omp_in_parallel() != 0) {
    const FloatEnvironment environment;
    for (std::int64_t phase = 0; phase < count; ++phase) body(context, phase, 0, 1);
    return;
  }
  const int used = threads_used(threads, std::numeric_limits<int>::max());
  if (used <= 1) {
    const FloatEnvironment environment;
    for (std::int64_t phase = 0; phase < count; ++phase) {
      body(context, phase, 0, 1);
      interruption_point();
    }
    return;
  }
  EarlyEnd end;
  // All threads leave after the same phase, or they would wait for each other for ever: what is due is read before the
  // barrier by none but one, and by the others behind it. Two places, for the one may be a phase ahead.
  bool leave[2] = {false, false};
  PhaseBarrier barrier;
  const auto region = [&] {
#pragma omp parallel num_threads(used)
    {
      const FloatEnvironment environment;
      const int member = omp_get_thread_num(), members = omp_get_num_threads();
      PhaseBarrier::Member together(barrier, members);
      for (std::int64_t phase = 0; phase < count; ++phase) {
        if (!end.due()) end.attempt([&] { body(context, phase, member, members); });
        end.look_around();
        if (member == 0) leave[phase & 1] = end.due();
        together.wait();
        if (leave[phase & 1]) break;
      }
    }
  };
  run_region(region, end, used);
}

}  // namespace attnlib
