#include "kernels/matrix_unit.hpp"

#include "kernels/amx/matrix_unit_parts.hpp"
#include "kernels/amx/tiles.hpp"

namespace attnlib::ATTNLIB_ISA {

extern constinit const MatrixUnitKernels matrix_unit_kernels = {
    .group_rows = matrix_group_rows,
    .block_rows = matrix_block_rows,
    .block_bytes = matrix_block_bytes,
    .step_bytes = tile_bytes,
    .arrange_rows = arrange_rows,
    .multiply_bfloat16 = multiply_bfloat16_tiles,
    .multiply_int8 = {multiply_int8_tiles<float>, nullptr, multiply_int8_tiles<float16>, multiply_int8_tiles<bfloat16>},
    .attend_bfloat16 = attend_bfloat16,
    .attention_scratch_bytes = attention_scratch_bytes,
    .decode_step = matrix_decode_step,
    .attention_decode = &matrix_unit_decode_kernels,
    .ceiling_bfloat16 = ceiling_bfloat16,
    .ceiling_int8 = ceiling_int8,
};

}  // namespace attnlib::ATTNLIB_ISA
