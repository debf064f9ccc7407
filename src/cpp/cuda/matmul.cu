#include "cuda/device_thread.cuh"
#include "cuda/launch.cuh"
#include "cuda/launch.hpp"
#include "cuda/matmul_tile.hpp"

namespace attnlib::cuda {
namespace {

template <class Element>
using Tile = MatmulTile<Element, typename DeviceProduct<Element>::type>;

template <class Element>
__global__ void __launch_bounds__(32 * Tile<Element>::warps) matmul_kernel(const MatmulArguments call) {
  extern __shared__ __align__(32) unsigned char memory[];
  Tile<Element>::run(DeviceThread{}, *reinterpret_cast<typename Tile<Element>::Shared*>(memory), call);
}

template <class Element>
void start(const MatmulArguments& call, cudaStream_t stream) {
  using ThisTile = Tile<Element>;
  const std::int64_t blocks = (call.rows + ThisTile::rows - 1) / ThisTile::rows *
                              ((call.columns + ThisTile::columns - 1) / ThisTile::columns) * call.batches;
  launch(matmul_kernel<Element>, blocks, 32 * ThisTile::warps, sizeof(typename ThisTile::Shared), call, stream,
         "matmul");
}

}  // namespace

void launch_matmul(const MatmulArguments& arguments, DType dtype, cudaStream_t stream) {
  if (dtype == DType::float32) return start<float>(arguments, stream);
  if (dtype == DType::float16) return start<float16>(arguments, stream);
  start<bfloat16>(arguments, stream);
}

}  // namespace attnlib::cuda
