// Tasks dealt out to threads: each is done once, whoever is late is helped, and neighbours begin on one thread.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

#include "runtime/parallel.hpp"

namespace {

using attnlib::TaskOrder;

int failures = 0;

void expect(const char* what, int threads, TaskOrder order, std::int64_t tasks, bool right) {
  if (right) return;
  ++failures;
  std::printf("  %s: %lld tasks %s, %d threads\n", what, static_cast<long long>(tasks),
              order == TaskOrder::shares ? "in shares" : "in turn", threads);
}

void test_each_once(int threads, TaskOrder order, std::int64_t tasks) {
  std::vector<std::atomic<int>> done(static_cast<std::size_t>(tasks));
  attnlib::parallel_for(
      tasks, threads, [&](std::int64_t task) { done[static_cast<std::size_t>(task)].fetch_add(1); }, order);
  bool once = true;
  for (const std::atomic<int>& times : done) once = once && times == 1;
  expect("not each task once", threads, order, tasks, once);
}

// The first task waits until all others are done, those of its own share too.
void test_help(int threads, TaskOrder order, std::int64_t tasks) {
  std::atomic<std::int64_t> done{0};
  bool helped = false;
  attnlib::parallel_for(
      tasks, threads,
      [&](std::int64_t task) {
        if (task > 0) {
          ++done;
          return;
        }
        const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(5);
        while (done < tasks - 1 && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
        helped = done == tasks - 1;
      },
      order);
  expect("nobody helped", threads, order, tasks, helped);
}

// Who begins a share goes on with it: all wait until each has begun one, and the first task's thread does the second,
// too, unless it sleeps through all of its share. From the first to the last another thread would have.
void test_neighbours(int threads, std::int64_t tasks_each) {
  constexpr int attempts = 100;
  const std::int64_t tasks = threads * tasks_each;
  bool own = false;
  for (int attempt = 0; attempt < attempts && !own; ++attempt) {
    std::thread::id first, second;
    std::atomic<int> begun{0};
    attnlib::parallel_for(tasks, threads, [&](std::int64_t task) {
      if (task == 0) first = std::this_thread::get_id();
      if (task == 1) second = std::this_thread::get_id();
      if (task % tasks_each != 0) return;
      ++begun;
      const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(5);
      while (begun < threads && std::chrono::steady_clock::now() < patience) std::this_thread::yield();
    });
    own = first == second;
  }
  expect("no thread went on with its share", threads, TaskOrder::shares, tasks, own);
}

}  // namespace

int main() {
  for (const int threads : {1, 2, 3, 70}) {
    attnlib::set_num_threads(threads);
    for (const TaskOrder order : {TaskOrder::shares, TaskOrder::in_turn})
      for (const std::int64_t tasks : {0, 1, 2, 3, 7, 64, 1000}) {
        test_each_once(threads, order, tasks);
        if (threads > 1 && tasks > 1) test_help(threads, order, tasks);
      }
    if (threads > 1) test_neighbours(threads == 70 ? 8 : threads, 500);
  }
  std::printf("tasks: %d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
