// The only scratch memory: a stack of bytes per thread, kept from call to call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "runtime/memory.hpp"

namespace attnlib {

// A block of this thread's scratch memory, aligned to a cache line and released by the destructor. Blocks of a thread
// are released in the reverse order of their making. std::bad_alloc when the memory is not to be had.
class Scratch {
 public:
  explicit Scratch(std::int64_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class Element>
  Element* as() const {
    return static_cast<Element*>(data_);
  }

 private:
  void* data_;
  std::size_t bytes_;
  Memory own_;  // of a block that the stack has no room for
};

// The product of extents and sizes, none of them negative. std::bad_alloc where it is too large to count: the extents
// of broadcast arrays know no bounds.
std::int64_t bytes_for(std::initializer_list<std::int64_t> factors);

// Gives back what is kept: the stacks of all threads that are in no call, and what malloc keeps of freed memory.
// Returns the bytes by which the process's resident memory shrank; where the system does not tell, those that the
// stacks had touched. Any thread may call it.
std::int64_t trim();

}  // namespace attnlib
