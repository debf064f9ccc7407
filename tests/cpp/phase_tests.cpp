// Threads that stay together for many phases: who comes late is waited for, asleep if need be, and where one fails all
// leave. More threads than CPUs are among them.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <thread>
#include <vector>

#include "runtime/parallel.hpp"

namespace {

int failures = 0;

void expect(const char* what, int threads, bool right) {
  if (right) return;
  ++failures;
  std::printf("  %s with %d threads\n", what, threads);
}

// Every member finds that all have done the phase before, also where some of them slept longer than others spin.
void test_order(int threads) {
  constexpr std::int64_t phases = 300;
  std::vector<std::atomic<int>> done(phases);
  std::atomic<bool> in_order{true};
  std::int64_t members_seen = 0;
  attnlib::parallel_phases(phases, threads, [&](std::int64_t phase, std::int64_t member, std::int64_t members) {
    if (phase > 0 && done[static_cast<std::size_t>(phase - 1)].load(std::memory_order_relaxed) != members)
      in_order = false;
    if (member == 0) members_seen = members;
    if (phase % 50 == member) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    done[static_cast<std::size_t>(phase)].fetch_add(1, std::memory_order_relaxed);
  });
  expect("phases out of order", threads, in_order);
  expect("phases left out", threads, done.back() == members_seen);
  expect("other members", threads, members_seen == threads);
}

// What a member throws comes out, and the phases after it are passed over.
void test_failure(int threads) {
  constexpr std::int64_t phases = 20, failing = 7;
  std::atomic<std::int64_t> last{0};
  bool thrown = false;
  try {
    attnlib::parallel_phases(phases, threads, [&](std::int64_t phase, std::int64_t member, std::int64_t members) {
      if (phase > last) last = phase;
      if (phase == failing && member == members - 1) throw std::runtime_error("as it should");
    });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  expect("no exception", threads, thrown);
  expect("went on after a failure", threads, last == failing);
}

}  // namespace

int main() {
  for (const int threads : {1, 2, 5}) {
    attnlib::set_num_threads(threads);
    for (int repeat = 0; repeat < 5; ++repeat) {
      test_order(threads);
      test_failure(threads);
    }
  }
  std::printf("phases: %d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
