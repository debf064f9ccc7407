// Products of 16×16 tiles by a warp on tensor cores, through WMMA: factors of float16 or bfloat16, sums in float32.
// Which lane holds which element is the hardware's business.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>

#include "attnlib/dtype.hpp"

namespace attnlib::cuda {

template <class Element>
struct WmmaNumber;
template <>
struct WmmaNumber<float16> {
  using type = __half;
};
template <>
struct WmmaNumber<bfloat16> {
  using type = __nv_bfloat16;
};

template <class Element>
struct TensorCoreProduct {
  using Number = typename WmmaNumber<Element>::type;
  using Accumulator = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
  using Left = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, Number, nvcuda::wmma::row_major>;
  using Right = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, Number, nvcuda::wmma::row_major>;
  using RightTransposed = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, Number, nvcuda::wmma::col_major>;
  static constexpr int elements = 8;
  static_assert(Accumulator::num_elements == elements);

  __device__ static float& element(Accumulator& tile, int i) { return tile.x[i]; }
  __device__ static void clear(Accumulator& tile) { nvcuda::wmma::fill_fragment(tile, 0.0f); }
  template <class Thread, class Fragment>
  __device__ static void load(const Thread&, Fragment& tile, const Element* data, int leading) {
    nvcuda::wmma::load_matrix_sync(tile, reinterpret_cast<const Number*>(data), static_cast<unsigned>(leading));
  }
  template <class Thread>
  __device__ static void load(const Thread&, Accumulator& tile, const float* data, int leading) {
    nvcuda::wmma::load_matrix_sync(tile, data, static_cast<unsigned>(leading), nvcuda::wmma::mem_row_major);
  }
  template <class Thread>
  __device__ static void store(const Thread&, float* data, int leading, const Accumulator& tile) {
    nvcuda::wmma::store_matrix_sync(data, tile, static_cast<unsigned>(leading), nvcuda::wmma::mem_row_major);
  }
  template <class Thread, class Other>
  __device__ static void multiply_add(const Thread&, Accumulator& tile, const Left& left, const Other& right) {
    nvcuda::wmma::mma_sync(tile, left, right, tile);
  }
};

}  // namespace attnlib::cuda
