#include "runtime/interruption.hpp"

#include <chrono>
#include <ctime>

namespace attnlib {
namespace {

constexpr std::int64_t milliseconds_between = 50;

thread_local Interruptible* current = nullptr;

std::int64_t milliseconds_now() {
#if defined(CLOCK_MONOTONIC_COARSE)
  // Advances every few milliseconds and is never a system call.
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
#else
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
#endif
}

}  // namespace

Interruptible::Interruptible(Question question, void* context)
    : question_(question), context_(context), next_(milliseconds_now() + milliseconds_between), before_(current) {
  current = this;
}

Interruptible::~Interruptible() { current = before_; }

bool interruption_due() {
  Interruptible* const call = current;
  if (call == nullptr || milliseconds_now() < call->next_) return false;
  // What asks may call operations itself, as a signal handler in Python does: they are to put questions of their own.
  current = nullptr;
  const bool answer = call->question_(call->context_);
  current = call;
  call->next_ = milliseconds_now() + milliseconds_between;
  return answer;
}

}  // namespace attnlib
