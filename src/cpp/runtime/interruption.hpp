// Ending long calls from outside: Ctrl-C. Whoever calls an operation may name a question, "is this to end?", which is
// asked between tasks on the calling thread, now and then. If the answer is yes, the tasks that have not begun are left
// out and Interrupted is thrown to the caller; what was computed is of no use then.
#pragma once

#include <cstdint>

namespace attnlib {

struct Interrupted {};

// Names the question of this thread while it lives. The first call of interruption_due() that asks it comes some tens
// of milliseconds later, so that short calls never do.
class Interruptible {
 public:
  using Question = bool (*)(void* context);  // must not throw
  Interruptible(Question question, void* context);
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  friend bool interruption_due();
  Question question_;
  void* context_;
  std::int64_t next_;
  Interruptible* before_;
};

// Whether to end; a few nanoseconds most of the time. Never on a thread that named no question.
bool interruption_due();

// Throws Interrupted if so. For long loops outside of parallel_for.
inline void interruption_point() {
  if (interruption_due()) throw Interrupted();
}

}  // namespace attnlib
