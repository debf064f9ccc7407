// Which keys a query may attend to. Query i of Sq stands at position `keys - Sq + i`, where `keys` are the valid ones:
// the last query sees the last valid key.
#pragma once

#include <cstdint>

#include "cuda/host_device.hpp"

namespace attnlib::cuda {

struct AttentionLimits {
  std::int64_t queries, keys;  // of this sequence; keys: the valid ones
  bool causal;

  // Query `row` sees keys 0 .. key_end(row) - 1.
  ATTNLIB_HOST_DEVICE std::int64_t key_end(std::int64_t row) const {
    if (!causal) return keys;
    const std::int64_t end = keys - queries + row + 1;
    return end < 0 ? 0 : end < keys ? end : keys;
  }

  // How many blocks of keys a tile of queries has to read. Its last query sees most.
  ATTNLIB_HOST_DEVICE std::int64_t key_blocks(std::int64_t first_row, int tile_rows, int block_keys) const {
    const std::int64_t end_row = first_row + tile_rows < queries ? first_row + tile_rows : queries;
    return (key_end(end_row - 1) + block_keys - 1) / block_keys;
  }
};

}  // namespace attnlib::cuda
