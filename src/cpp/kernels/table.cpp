#include "kernels/table.hpp"

#define ATTNLIB_STRINGIFY(name) #name
#define ATTNLIB_NAME(name) ATTNLIB_STRINGIFY(name)

namespace attnlib::ATTNLIB_ISA {

extern const ActivationKernels activation_kernels;
extern const AttentionDecodeKernels attention_decode_kernels;
extern const AttentionKernels attention_kernels;
extern const CeilingKernels ceiling_kernels;
extern const LstmCellKernels lstm_cell_kernels;
extern const MatmulKernels matmul_kernels;
extern const NormalizationKernels normalization_kernels;
extern const RotaryKernels rotary_kernels;
extern const SoftmaxKernels softmax_kernels;

extern constinit const KernelTable table = {
    ATTNLIB_NAME(ATTNLIB_ISA),
    &activation_kernels,
    &attention_kernels,
    &attention_decode_kernels,
    &ceiling_kernels,
    &lstm_cell_kernels,
    &matmul_kernels,
    &normalization_kernels,
    &rotary_kernels,
    &softmax_kernels,
    nullptr,
};

}  // namespace attnlib::ATTNLIB_ISA
