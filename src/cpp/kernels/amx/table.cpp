// The rung of the matrix unit: all that the rung it extends has, and products by the unit.
#include "kernels/table.hpp"

#include "kernels/amx/matrix_unit_parts.hpp"

#define ATTNLIB_STRINGIFY(name) #name
#define ATTNLIB_NAME(name) ATTNLIB_STRINGIFY(name)

namespace attnlib::ATTNLIB_EXTENDED_ISA {

extern const ActivationKernels activation_kernels;
extern const AttentionDecodeKernels attention_decode_kernels;
extern const AttentionKernels attention_kernels;
extern const CeilingKernels ceiling_kernels;
extern const LstmCellKernels lstm_cell_kernels;
extern const MatmulKernels matmul_kernels;
extern const NormalizationKernels normalization_kernels;
extern const RotaryKernels rotary_kernels;
extern const SoftmaxKernels softmax_kernels;

}  // namespace attnlib::ATTNLIB_EXTENDED_ISA

namespace attnlib::ATTNLIB_ISA {
namespace {

constexpr MatrixUnitKernels matrix_unit_kernels = {
    .tile_rows = matrix_group_rows,
    .block_rows = matrix_block_rows,
    .multiply_bfloat16 = multiply_bfloat16_tiles,
    .multiply_int8 = {multiply_int8_tiles<float>, nullptr, multiply_int8_tiles<float16>, multiply_int8_tiles<bfloat16>},
    .attend_bfloat16 = attend_bfloat16,
    .attention_scratch_bytes = attention_scratch_bytes,
    .ceiling_bfloat16 = ceiling_bfloat16,
    .ceiling_int8 = ceiling_int8,
};

}  // namespace

namespace extended = ATTNLIB_EXTENDED_ISA;

extern constinit const KernelTable table = {
    ATTNLIB_NAME(ATTNLIB_ISA),    &extended::activation_kernels,
    &extended::attention_kernels, &extended::attention_decode_kernels,
    &extended::ceiling_kernels,   &extended::lstm_cell_kernels,
    &extended::matmul_kernels,    &extended::normalization_kernels,
    &extended::rotary_kernels,    &extended::softmax_kernels,
    &matrix_unit_kernels,
};

}  // namespace attnlib::ATTNLIB_ISA
