#include "runtime/memory.hpp"

#include <pthread.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <utility>

namespace attnlib {
namespace {

constexpr std::size_t cache_line = 64, huge_page = std::size_t{2} << 20;
// What malloc, too, would map on its own, were its threshold not to grow.
constexpr std::size_t least_mapped = std::size_t{1} << 20;
// What is smaller is hardly worth prefetching; what is larger has huge pages of its own. Between, at most an eighth of
// a slab is left over at its end.
constexpr std::size_t least_in_slab = std::size_t{64} << 10, most_in_slab = 2 * huge_page;
constexpr std::size_t slab_bytes = 16 * huge_page;

// The slab that is being filled. It is not kept alive here, so that it goes with the weights in it. Never destroyed:
// other threads may still compute while the process ends.
struct Slab {
  std::mutex mutex;
  std::weak_ptr<std::byte> memory;
  std::size_t used = 0;
};
Slab& slab = *new Slab;

// A child that fork() makes while another thread fills the slab would wait for that thread for ever: it has none but
// the one that forked. So fork() waits until the slab is whole.
const int fork_handler =
    pthread_atfork([] { slab.mutex.lock(); }, [] { slab.mutex.unlock(); }, [] { slab.mutex.unlock(); });

#if defined(__linux__)
Memory map(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::size_t>::max() - 2 * huge_page) throw std::bad_alloc();
  const bool large = bytes >= 2 * huge_page;
  static const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t wanted = (bytes + page - 1) / page * page, room = large ? huge_page : 0;
  void* const found = mmap(nullptr, wanted + room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) throw std::bad_alloc();
  auto* first = static_cast<std::byte*>(found);
  if (large) {
    // Huge pages are aligned: what is before the first of them, and after the last byte, goes back.
    const std::size_t before = (huge_page - reinterpret_cast<std::uintptr_t>(first) % huge_page) % huge_page;
    if (before != 0) munmap(first, before);
    first += before;
    if (room != before) munmap(first + wanted, room - before);
    // A weight that streams by would miss the translation buffer every 4 KB, and the prefetchers stop at each page's
    // end. Where the system gives no huge pages this does nothing.
    madvise(first, bytes / huge_page * huge_page, MADV_HUGEPAGE);
  }
  return {first, MemoryDelete{wanted}};
}
#endif

std::shared_ptr<std::byte> shared(Memory memory) {
  const MemoryDelete release = memory.get_deleter();
  return {memory.release(), release};
}

}  // namespace

void MemoryDelete::operator()(std::byte* memory) const {
  if (separate_blocks) {
    std::free(memory);
    return;
  }
#if defined(__linux__)
  if (mapped != 0) {
    munmap(memory, mapped);
    return;
  }
#endif
  ::operator delete[](memory, std::align_val_t{cache_line});
}

Memory allocate(std::size_t bytes) {
  if (separate_blocks) {
    // Not `new`: where AddressSanitizer has no memory for that, it ends the program.
    void* memory = nullptr;
    if (posix_memalign(&memory, cache_line, std::max<std::size_t>(bytes, 1)) != 0) throw std::bad_alloc();
    return {static_cast<std::byte*>(memory), MemoryDelete{}};
  }
#if defined(__linux__)
  if (bytes >= least_mapped) return map(bytes);
#endif
  return {static_cast<std::byte*>(::operator new[](std::max<std::size_t>(bytes, 1), std::align_val_t{cache_line})),
          MemoryDelete{}};
}

std::shared_ptr<std::byte> allocate_lasting(std::size_t bytes) {
  if (separate_blocks || bytes < least_in_slab || bytes >= most_in_slab) return shared(allocate(bytes));
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
