#include "runtime/memory.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>

namespace attnlib {

Memory allocate(std::size_t bytes) {
  constexpr std::size_t cache_line = 64, huge_page = std::size_t{2} << 20;
  const bool large = bytes >= 2 * huge_page;
  const std::align_val_t alignment{large ? huge_page : cache_line};
  Memory memory(static_cast<std::byte*>(::operator new[](std::max<std::size_t>(bytes, 1), alignment)), {alignment});
#if defined(__linux__)
  // A weight that streams by would miss the translation buffer every 4 KB, and the prefetchers stop at each page's end.
  // Where the system gives no huge pages this does nothing.
  if (large) madvise(memory.get(), bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace attnlib
