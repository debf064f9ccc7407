// Attention of bfloat16 by the matrix unit: the tiles of kernels/attention.hpp, with the products of
// kernels/amx/attention_products.hpp.
#include "kernels/amx/matrix_unit_parts.hpp"
#include "kernels/attention_blocks.hpp"

namespace attnlib::ATTNLIB_ISA {

void attend_bfloat16(const AttentionTask* task) noexcept {
  const TileShapes shapes;
  shapes.apply();
  attend_in_tiles<bfloat16>(*task);
}

std::int64_t attention_scratch_bytes(std::int64_t head_size, std::int64_t value_size) noexcept {
  return scratch_elements<bfloat16>(head_size, value_size) * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace attnlib::ATTNLIB_ISA
