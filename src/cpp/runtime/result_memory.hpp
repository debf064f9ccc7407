// Memory for large results, kept from call to call.
//
// A forward pass makes the same large arrays again and again. malloc gives what was freed at the end of its heap back
// to the system, and each pass would be given fresh pages, zeroed one by one: 2 % of an encoder's time in float32, 8 %
// in int8.
#pragma once

#include <cstddef>
#include <memory>

#include "runtime/memory.hpp"

namespace attnlib {

// Fewer bytes are better had from malloc.
constexpr std::size_t least_result_bytes = std::size_t{1} << 20;
// The most that is kept while nobody uses it.
constexpr std::size_t most_kept_result_bytes = std::size_t{64} << 20;

// One block, of at least so many bytes; given back, it is kept for the next who asks. Any thread may take and give.
class ResultMemory {
 public:
  // std::bad_alloc when the memory is not to be had.
  explicit ResultMemory(std::size_t bytes);
  ~ResultMemory();
  ResultMemory(const ResultMemory&) = delete;
  ResultMemory& operator=(const ResultMemory&) = delete;

  std::byte* data() const { return memory_.get(); }

 private:
  std::size_t bytes_;
  Memory memory_;
};

// Gives what is kept back to the system, and says how many bytes they were.
std::size_t release_kept_results();

}  // namespace attnlib
