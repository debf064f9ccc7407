#include "runtime/workspace.hpp"

#include <pthread.h>

#if defined(__linux__)
#include <malloc.h>
#include <unistd.h>

#include <fstream>
#endif

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/dispatch_record.hpp"
#include "runtime/result_memory.hpp"

namespace attnlib {
namespace {

constexpr std::size_t alignment = 64;
// Address space kept for the life of the thread, memory only as far as it was touched: enough for what attention and
// the products want. What does not fit is allocated for the call and given back.
constexpr std::size_t stack_bytes = std::size_t{16} << 20;

struct ThreadStack {
  const pthread_t owner = pthread_self();
  Memory memory;
  std::size_t used = 0, most_used = 0;
  // Held by the thread from its first block to its last, or by trim() for a moment.
  std::atomic<bool> busy{false};

  void take() {
    while (busy.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  void leave() { busy.store(false, std::memory_order_release); }
};

// All of them, so that trim() can free those that are not in use. Never destroyed: threads may end after the static
// objects of this library have gone.
struct Stacks {
  std::mutex mutex;
  std::vector<ThreadStack*> all;
};

Stacks& stacks() {
  static Stacks& stacks = *new Stacks;
  return stacks;
}

struct OwnStack {
  ThreadStack* const stack = new ThreadStack;

  OwnStack() {
    const std::lock_guard lock(stacks().mutex);
    stacks().all.push_back(stack);
  }
  ~OwnStack() {
    {
      const std::lock_guard lock(stacks().mutex);
      std::erase(stacks().all, stack);
    }
    delete stack;
  }
};

ThreadStack& thread_stack() {
  thread_local const OwnStack own;
  return *own.stack;
}

// In a child the other threads are no more: nobody holds the mutex, and what they kept is freed.
void before_fork() { stacks().mutex.lock(); }
void after_fork() { stacks().mutex.unlock(); }
void in_child() {
  std::erase_if(stacks().all, [](ThreadStack* stack) {
    if (pthread_equal(stack->owner, pthread_self()) != 0) return false;
    delete stack;
    return true;
  });
  after_fork();
}
const int fork_handlers = pthread_atfork(&before_fork, &after_fork, &in_child);

void record(std::size_t bytes) {
  DispatchRecord& call = dispatch_record();
  call.workspace_bytes = std::max(call.workspace_bytes, static_cast<std::int64_t>(bytes));
}

// Memory of this process that is there and not only promised, or nothing where nobody says.
std::int64_t resident_bytes() {
#if defined(__linux__)
  std::int64_t size = 0, resident = 0;
  if (std::ifstream("/proc/self/statm") >> size >> resident) return resident * sysconf(_SC_PAGESIZE);
#endif
  return 0;
}

}  // namespace

std::int64_t bytes_for(std::initializer_list<std::int64_t> factors) {
  std::int64_t bytes = 1;
  for (const std::int64_t factor : factors)
    if (__builtin_mul_overflow(bytes, factor, &bytes)) throw std::bad_alloc();
  return bytes;
}

Scratch::Scratch(std::int64_t bytes)
    : data_(nullptr),
      bytes_((static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1)) + alignment - 1) / alignment * alignment) {
  ThreadStack& stack = thread_stack();
  if (separate_blocks || bytes_ > stack_bytes - stack.used) {
    own_ = allocate(separate_blocks ? static_cast<std::size_t>(bytes) : bytes_);
    data_ = own_.get();
    record(stack.used + bytes_);
    return;
  }
  if (stack.used == 0) {
    stack.take();
    try {
      if (!stack.memory) stack.memory = allocate(stack_bytes);
    } catch (...) {
      stack.leave();
      throw;
    }
  }
  data_ = stack.memory.get() + stack.used;
  stack.used += bytes_;
  stack.most_used = std::max(stack.most_used, stack.used);
  record(stack.used);
}

Scratch::~Scratch() {
  if (own_) return;
  ThreadStack& stack = thread_stack();
  stack.used -= bytes_;
  if (stack.used == 0) stack.leave();
}

std::int64_t trim() {
  const std::int64_t before = resident_bytes();
  auto touched = static_cast<std::int64_t>(release_kept_results());
  {
    const std::lock_guard lock(stacks().mutex);
    for (ThreadStack* stack : stacks().all) {
      if (stack->busy.exchange(true, std::memory_order_acquire)) continue;
      touched += static_cast<std::int64_t>(stack->most_used);
      stack->memory.reset();
      stack->most_used = 0;
      stack->leave();
    }
  }
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  return before == 0 ? touched : std::max<std::int64_t>(before - resident_bytes(), 0);
}

}  // namespace attnlib
