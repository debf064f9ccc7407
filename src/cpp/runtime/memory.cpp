#include "runtime/memory.hpp"

#include <pthread.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <mutex>
#include <utility>

namespace attnlib {
namespace {

constexpr std::size_t cache_line = 64, huge_page = std::size_t{2} << 20;
// What is smaller is hardly worth prefetching; what is larger has huge pages of its own. Between, at most an eighth of
// a slab is left over at its end.
constexpr std::size_t least_in_slab = std::size_t{64} << 10, most_in_slab = 2 * huge_page;
constexpr std::size_t slab_bytes = 16 * huge_page;

// The slab that is being filled. It is not kept alive here, so that it goes with the weights in it.
struct Slab {
  std::mutex mutex;
  std::weak_ptr<std::byte> memory;
  std::size_t used = 0;
};
constinit Slab slab;

// A child that fork() makes while another thread fills the slab would wait for that thread for ever: it has none but
// the one that forked. So fork() waits until the slab is whole.
const int fork_handler = pthread_atfork([] { slab.mutex.lock(); }, [] { slab.mutex.unlock(); },
                                        [] { slab.mutex.unlock(); });

std::shared_ptr<std::byte> shared(Memory memory) {
  const MemoryDelete release = memory.get_deleter();
  return {memory.release(), release};
}

}  // namespace

Memory allocate(std::size_t bytes) {
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

std::shared_ptr<std::byte> allocate_lasting(std::size_t bytes) {
  if (bytes < least_in_slab || bytes >= most_in_slab) return shared(allocate(bytes));
  const std::lock_guard lock(slab.mutex);
  std::shared_ptr<std::byte> memory = slab.memory.lock();
  if (memory == nullptr || slab.used + bytes > slab_bytes) {
    memory = shared(allocate(slab_bytes));
    slab.memory = memory;
    slab.used = 0;
  }
  std::byte* place = memory.get() + slab.used;
  slab.used += (bytes + cache_line - 1) / cache_line * cache_line;
  return {std::move(memory), place};
}

}  // namespace attnlib
