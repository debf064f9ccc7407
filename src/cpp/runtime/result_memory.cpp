#include "runtime/result_memory.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <mutex>
#include <utility>

namespace attnlib {
namespace {

struct Block {
  std::size_t bytes;
  Memory memory;
};

// Those that nobody uses, the longest unused first. An array, so that giving a block back cannot fail.
struct Kept {
  std::mutex mutex;
  std::array<Block, 64> blocks{};
  std::size_t count = 0, bytes = 0;

  Block remove(std::size_t index) {
    Block block = std::move(blocks[index]);
    std::move(blocks.begin() + static_cast<std::ptrdiff_t>(index) + 1,
              blocks.begin() + static_cast<std::ptrdiff_t>(count), blocks.begin() + static_cast<std::ptrdiff_t>(index));
    --count;
    bytes -= block.bytes;
    return block;
  }
};

Kept& kept() {
  // Never destroyed: arrays may be freed after it would have been, while the process ends.
  static Kept* const all = new Kept;
  return *all;
}

// Nobody waits for the lock: who does not get it does without. So a child of fork() cannot wait for a thread that is
// not there any more.
using TryLock = std::unique_lock<std::mutex>;

// Sizes that differ by less than an eighth share their blocks.
std::size_t rounded(std::size_t bytes) {
  const std::size_t step = std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace

ResultMemory::ResultMemory(std::size_t bytes) : bytes_(separate_blocks ? bytes : rounded(bytes)) {
  Kept& all = kept();
  if (const TryLock lock(all.mutex, std::try_to_lock); lock)
    for (std::size_t index = all.count; index-- > 0;)
      if (all.blocks[index].bytes == bytes_) {
        memory_ = all.remove(index).memory;
        return;
      }
  memory_ = allocate(bytes_);
}

ResultMemory::~ResultMemory() {
  if (separate_blocks || bytes_ > most_kept_result_bytes) return;
  Kept& all = kept();
  const TryLock lock(all.mutex, std::try_to_lock);
  if (!lock) return;
  while (all.count == all.blocks.size() || all.bytes + bytes_ > most_kept_result_bytes) all.remove(0);
  all.blocks[all.count++] = {bytes_, std::move(memory_)};
  all.bytes += bytes_;
}

std::size_t release_kept_results() {
  Kept& all = kept();
  const TryLock lock(all.mutex, std::try_to_lock);
  if (!lock) return 0;
  const std::size_t bytes = all.bytes;
  while (all.count > 0) all.remove(all.count - 1);
  return bytes;
}

}  // namespace attnlib
