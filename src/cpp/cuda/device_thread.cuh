// A thread of a block, as the algorithms of this folder see it. tests/cuda/emulation has another one for the CPU.
#pragma once

#include <cstdint>

#include "cuda/scalar_product.hpp"
#include "cuda/tensor_core_product.cuh"

namespace attnlib::cuda {

struct DeviceThread {
  __device__ int index() const { return static_cast<int>(threadIdx.x); }
  __device__ int count() const { return static_cast<int>(blockDim.x); }
  __device__ int lane() const { return static_cast<int>(threadIdx.x & 31u); }
  // The same in all lanes, and the compiler is to know it.
  __device__ int warp() const { return __shfl_sync(~0u, static_cast<int>(threadIdx.x >> 5u), 0); }
  __device__ std::int64_t block() const { return static_cast<std::int64_t>(blockIdx.x); }
  __device__ void sync_block() const { __syncthreads(); }
  __device__ void sync_warp() const { __syncwarp(); }
  __device__ float shuffle_xor(float value, int mask) const { return __shfl_xor_sync(~0u, value, mask); }
};

template <class Element>
struct DeviceProduct {
  using type = TensorCoreProduct<Element>;
};
template <>
struct DeviceProduct<float> {
  using type = ScalarProduct;
};

}  // namespace attnlib::cuda
