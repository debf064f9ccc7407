// What a rung provides: one table of tables of function pointers, one table per family of operations.
#pragma once

#include "kernels/activation.hpp"
#include "kernels/attention.hpp"
#include "kernels/attention_decode.hpp"
#include "kernels/ceiling.hpp"
#include "kernels/lstm_cell.hpp"
#include "kernels/matmul.hpp"
#include "kernels/matrix_unit.hpp"
#include "kernels/normalization.hpp"
#include "kernels/rotary.hpp"
#include "kernels/softmax.hpp"

namespace attnlib {

struct KernelTable {
  const char* rung;
  const ActivationKernels* activation;
  const AttentionKernels* attention;
  const AttentionDecodeKernels* attention_decode;
  const CeilingKernels* ceiling;
  const LstmCellKernels* lstm_cell;
  const MatmulKernels* matmul;
  const NormalizationKernels* normalization;
  const RotaryKernels* rotary;
  const SoftmaxKernels* softmax;
  const MatrixUnitKernels* matrix_unit;  // or null
};

}  // namespace attnlib
