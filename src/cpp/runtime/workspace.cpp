#include "runtime/workspace.hpp"

#include <algorithm>

#include "runtime/dispatch_record.hpp"

namespace attnlib {
namespace {

constexpr std::size_t alignment = 64;
// Address space kept for the life of the thread, memory only as far as it was touched: enough for what attention and
// the products want. What does not fit is allocated for the call and given back.
constexpr std::size_t stack_bytes = std::size_t{16} << 20;

struct ThreadStack {
  Memory memory;
  std::size_t used = 0;
};

thread_local ThreadStack thread_stack;

void record(std::size_t bytes) {
  DispatchRecord& call = dispatch_record();
  call.workspace_bytes = std::max(call.workspace_bytes, static_cast<std::int64_t>(bytes));
}

}  // namespace

Scratch::Scratch(std::int64_t bytes)
    : data_(nullptr), bytes_((static_cast<std::size_t>(bytes) + alignment - 1) / alignment * alignment) {
  ThreadStack& stack = thread_stack;
  if (bytes_ > stack_bytes - stack.used) {
    own_ = allocate(bytes_);
    data_ = own_.get();
    record(stack.used + bytes_);
    return;
  }
  if (!stack.memory) stack.memory = allocate(stack_bytes);
  data_ = stack.memory.get() + stack.used;
  stack.used += bytes_;
  record(stack.used);
}

Scratch::~Scratch() {
  if (!own_) thread_stack.used -= bytes_;
}

}  // namespace attnlib
