#include "kernels/table.hpp"

#define ATTNLIB_STRINGIFY(name) #name
#define ATTNLIB_NAME(name) ATTNLIB_STRINGIFY(name)

// Where the tables are: in the rung itself, or in the one that it extends.
namespace attnlib::ATTNLIB_BASE_ISA {

extern const ActivationKernels activation_kernels;
extern const AttentionDecodeKernels attention_decode_kernels;
extern const AttentionKernels attention_kernels;
extern const CeilingKernels ceiling_kernels;
extern const LstmCellKernels lstm_cell_kernels;
extern const MatmulKernels matmul_kernels;
extern const NormalizationKernels normalization_kernels;
extern const RotaryKernels rotary_kernels;
extern const SoftmaxKernels softmax_kernels;

}  // namespace attnlib::ATTNLIB_BASE_ISA

namespace attnlib::ATTNLIB_ISA {

namespace base = ATTNLIB_BASE_ISA;

#if defined(ATTNLIB_MATRIX_UNIT)
extern const MatrixUnitKernels matrix_unit_kernels;
constexpr const MatrixUnitKernels* matrix_unit = &matrix_unit_kernels;
#else
constexpr const MatrixUnitKernels* matrix_unit = nullptr;
#endif

extern constinit const KernelTable table = {
    ATTNLIB_NAME(ATTNLIB_ISA),
    &base::activation_kernels,
    &base::attention_kernels,
    &base::attention_decode_kernels,
    &base::ceiling_kernels,
    &base::lstm_cell_kernels,
    &base::matmul_kernels,
    &base::normalization_kernels,
    &base::rotary_kernels,
    &base::softmax_kernels,
    matrix_unit,
};

}  // namespace attnlib::ATTNLIB_ISA
