// A block of GPU threads on a CPU: each is a fiber, which runs until it waits for the others. Between two barriers the
// fibers run in an order of their own each time (forwards, backwards, in a stride), so that a barrier that is missing
// makes a wrong result.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

namespace attnlib::emulation {

class Block {
 public:
  Block(int count, std::int64_t number) : number(number), fibers_(static_cast<std::size_t>(count)) {}

  enum class State { ready, at_warp_barrier, at_block_barrier, done };
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    State state = State::ready;
    float offered = 0;  // to the lanes of its warp
  };

  void run(const std::function<void(int)>& body) {
    constexpr std::size_t stack_bytes = 128 * 1024;
    body_ = &body;
    current_ = this;
    for (int i = 0; i < count(); ++i) {
      Fiber& fiber = at(i);
      fiber.stack = std::make_unique_for_overwrite<char[]>(stack_bytes);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = stack_bytes;
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Block::enter), 1, i);
    }
    for (int round = 0; !all(0, count(), State::done); ++round) {
      bool moved = false;
      for (int i = 0; i < count(); ++i) {
        const int order[] = {i, count() - 1 - i, i * 37 % count()};
        const int index = order[round % 3];
        if (at(index).state != State::ready) continue;
        moved = true;
        swapcontext(&scheduler_, &at(index).context);
      }
      for (int warp = 0; warp < count(); warp += 32)
        if (all(warp, warp + 32, State::at_warp_barrier)) release(warp, warp + 32);
      if (all(0, count(), State::at_block_barrier)) {
        release(0, count());
        moved = true;
      }
      bool someone_is_ready = false;
      for (int i = 0; i < count(); ++i) someone_is_ready = someone_is_ready || at(i).state == State::ready;
      if (!moved || (!someone_is_ready && !all(0, count(), State::done))) {
        std::fprintf(stderr, "emulation: threads wait at different barriers\n");
        std::abort();
      }
    }
  }

  void wait(int index, State barrier) {
    at(index).state = barrier;
    swapcontext(&at(index).context, &scheduler_);
  }
  int count() const { return static_cast<int>(fibers_.size()); }
  Fiber& at(int index) { return fibers_[static_cast<std::size_t>(index)]; }

  const std::int64_t number;

 private:
  static void enter(int index) {
    Block* const block = current_;
    (*block->body_)(index);
    block->at(index).state = State::done;
  }
  bool all(int begin, int end, State state) {
    for (int i = begin; i < end; ++i)
      if (at(i).state != state) return false;
    return true;
  }
  void release(int begin, int end) {
    for (int i = begin; i < end; ++i) at(i).state = State::ready;
  }

  inline static Block* current_ = nullptr;
  std::vector<Fiber> fibers_;
  ucontext_t scheduler_;
  const std::function<void(int)>* body_ = nullptr;
};

// The interface of cuda::DeviceThread.
class Thread {
 public:
  Thread(Block& block, int index) : block_(&block), index_(index) {}
  int index() const { return index_; }
  int count() const { return block_->count(); }
  int lane() const { return index_ % 32; }
  int warp() const { return index_ / 32; }
  std::int64_t block() const { return block_->number; }
  void sync_block() const { block_->wait(index_, Block::State::at_block_barrier); }
  void sync_warp() const { block_->wait(index_, Block::State::at_warp_barrier); }
  float shuffle_xor(float value, int mask) const {
    block_->at(index_).offered = value;
    sync_warp();
    const float received = block_->at(index_ ^ mask).offered;
    sync_warp();
    return received;
  }

 private:
  Block* block_;
  int index_;
};

}  // namespace attnlib::emulation
