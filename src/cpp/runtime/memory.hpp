// Blocks of memory for packed weights and scratch: aligned to a cache line, large ones in huge pages.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace attnlib {

struct MemoryDelete {
  std::align_val_t alignment;
  void operator()(std::byte* memory) const { ::operator delete[](memory, alignment); }
};
using Memory = std::unique_ptr<std::byte[], MemoryDelete>;

// std::bad_alloc when the memory is not to be had. It is not touched.
Memory allocate(std::size_t bytes);

}  // namespace attnlib
