// Starting kernels: one thread block for each tile, errors become exceptions.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <limits>
#include <stdexcept>

#include "cuda/error.hpp"

namespace attnlib::cuda {

inline unsigned grid_of(std::int64_t blocks, const char* operation) {
  if (blocks > std::numeric_limits<std::int32_t>::max())
    throw std::invalid_argument(std::string(operation) + ": more than 2147483647 tiles");
  return static_cast<unsigned>(blocks);
}

// Above 48 KB of shared memory a kernel has to ask.
template <class Kernel, class Arguments>
void launch(Kernel* kernel, std::int64_t blocks, int threads, std::size_t shared_bytes, const Arguments& arguments,
            cudaStream_t stream, const char* operation) {
  if (blocks == 0) return;
  if (shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
          operation);
  kernel<<<grid_of(blocks, operation), static_cast<unsigned>(threads), shared_bytes, stream>>>(arguments);
  check(cudaGetLastError(), operation);
}

}  // namespace attnlib::cuda
