// The kernels as the bindings see them: each call is enqueued on `stream`. All addresses are of the current device's
// memory; dtype is float32, float16 or bfloat16.
#pragma once

#include <cuda_runtime_api.h>

#include "attnlib/dtype.hpp"
#include "cuda/attention_arguments.hpp"
#include "cuda/matmul_tile.hpp"
#include "cuda/softmax_rows.hpp"

namespace attnlib::cuda {

void launch_attention(const AttentionArguments& arguments, DType dtype, cudaStream_t stream);
void launch_matmul(const MatmulArguments& arguments, DType dtype, cudaStream_t stream);
void launch_softmax(const SoftmaxArguments& arguments, DType dtype, cudaStream_t stream);

}  // namespace attnlib::cuda
