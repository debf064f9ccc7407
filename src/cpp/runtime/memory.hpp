// Blocks of memory for packed weights, results and scratch: aligned to a cache line, large ones in huge pages.
//
// Large ones are mappings of their own, so that what is freed goes back to the system at once, and leaves no holes.
//
// The weights of a small model are too small for huge pages of their own, yet are read from end to end for every token:
// those of middling size share slabs of huge pages, one after the other in the order in which they are made. A slab
// goes when the last weight in it has gone.
#pragma once

#include <cstddef>
#include <memory>

namespace attnlib {

// Sanitizers and valgrind know the bounds of the allocator's blocks, not of a place in a slab or in a stack of scratch
// memory, and of a block that is kept they take for written what its last user wrote. For them every block is the
// allocator's own, as long as was asked for, and nothing is kept.
#if defined(ATTNLIB_SEPARATE_BLOCKS)
constexpr bool separate_blocks = true;
#else
constexpr bool separate_blocks = false;
#endif

struct MemoryDelete {
  std::size_t mapped = 0;  // bytes that are the system's own mapping; 0: the allocator's
  void operator()(std::byte* memory) const;
};
using Memory = std::unique_ptr<std::byte[], MemoryDelete>;

// std::bad_alloc when the memory is not to be had. It is not touched.
Memory allocate(std::size_t bytes);

// The same for what is kept: a block of its own, or a place in a slab that it keeps alive. Any thread may call it.
std::shared_ptr<std::byte> allocate_lasting(std::size_t bytes);

}  // namespace attnlib
