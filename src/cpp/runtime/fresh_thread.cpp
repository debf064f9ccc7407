#include "runtime/fresh_thread.hpp"

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace attnlib {
namespace {

class FreshThread {
 public:
  FreshThread() {
    std::thread([this] { serve(); }).detach();
  }

  void run(const std::function<void()>& work, const std::function<void()>& look_around) {
    std::unique_lock lock(mutex_);
    work_ = &work;
    changed_.notify_all();
    // By the wall clock: the steady one would take glibc 2.30. Were it set back, a look would come later, no more.
    const auto later = [] { return std::chrono::system_clock::now() + std::chrono::milliseconds(50); };
    while (!changed_.wait_until(lock, later(), [&] { return work_ == nullptr; })) {
      lock.unlock();
      look_around();
      lock.lock();
    }
  }

 private:
  [[noreturn]] void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return work_ != nullptr; });
      const std::function<void()>& work = *work_;
      lock.unlock();
      work();
      lock.lock();
      work_ = nullptr;
      changed_.notify_all();
    }
  }

  friend class IdleThread;
  FreshThread* next_ = nullptr;  // of those that wait for work
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* work_ = nullptr;
};

// One thread survives a fork, so one such helper is enough, but for calls within a call: of a signal handler that ran
// while its caller looked around. They serve to the end of the process, and are never freed; in a child of the child,
// where they are no more, there are others.
thread_local bool forked = false;
FreshThread* idle = nullptr;

const int handler = pthread_atfork(nullptr, nullptr, [] {
  forked = true;
  idle = nullptr;
});

class IdleThread {
 public:
  IdleThread() : thread_(idle != nullptr ? idle : new FreshThread) { idle = thread_->next_; }
  ~IdleThread() {
    thread_->next_ = idle;
    idle = thread_;
  }
  IdleThread(const IdleThread&) = delete;
  IdleThread& operator=(const IdleThread&) = delete;
  FreshThread* operator->() const { return thread_; }

 private:
  FreshThread* thread_;
};

}  // namespace

bool came_through_fork() { return forked; }

void on_fresh_thread(const std::function<void()>& work, const std::function<void()>& look_around) {
  const IdleThread thread;
  thread->run(work, look_around);
}

}  // namespace attnlib
