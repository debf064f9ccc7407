#include "runtime/workspace.hpp"

#include <memory>
#include <new>

namespace attnlib {
namespace {

constexpr std::size_t alignment = 64;
// Address space kept for the life of the thread, memory only as far as it was touched: enough for what attention and
// the products want. What does not fit is allocated for the call and given back.
constexpr std::size_t stack_bytes = std::size_t{4} << 20;

struct AlignedDelete {
  void operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t{alignment}); }
};

struct ThreadStack {
  std::unique_ptr<std::byte[], AlignedDelete> memory;
  std::size_t used = 0;
};

thread_local ThreadStack thread_stack;

std::byte* allocate(std::size_t bytes) {
  return static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{alignment}));
}

}  // namespace

Scratch::Scratch(std::int64_t bytes)
    : data_(nullptr),
      bytes_((static_cast<std::size_t>(bytes) + alignment - 1) / alignment * alignment),
      on_stack_(false) {
  ThreadStack& stack = thread_stack;
  if (bytes_ > stack_bytes - stack.used) {
    data_ = allocate(bytes_);
    return;
  }
  if (!stack.memory) stack.memory.reset(allocate(stack_bytes));
  data_ = stack.memory.get() + stack.used;
  stack.used += bytes_;
  on_stack_ = true;
}

Scratch::~Scratch() {
  if (on_stack_)
    thread_stack.used -= bytes_;
  else
    AlignedDelete{}(static_cast<std::byte*>(data_));
}

}  // namespace attnlib
