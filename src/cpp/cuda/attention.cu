#include "cuda/attention_tile.hpp"
#include "cuda/device_thread.cuh"
#include "cuda/launch.cuh"
#include "cuda/launch.hpp"

namespace attnlib::cuda {
namespace {

template <class Element, int Head>
using Tile = AttentionTile<Element, typename DeviceProduct<Element>::type, Head>;

// At least one block at a time: without this bound ptxas rather spills a few registers than run two blocks for three.
template <class Element, int Head>
__global__ void __launch_bounds__(32 * Tile<Element, Head>::warps, 1) attention_kernel(const AttentionArguments call) {
  extern __shared__ __align__(32) unsigned char memory[];
  Tile<Element, Head>::run(DeviceThread{}, *reinterpret_cast<typename Tile<Element, Head>::Shared*>(memory), call);
}

template <class Element, int Head>
void start(const AttentionArguments& call, cudaStream_t stream) {
  using ThisTile = Tile<Element, Head>;
  static_assert(sizeof(typename ThisTile::Shared) <= 113 * 1024);
  const std::int64_t blocks = (call.queries + ThisTile::rows - 1) / ThisTile::rows * call.heads * call.batches;
  launch(attention_kernel<Element, Head>, blocks, 32 * ThisTile::warps, sizeof(typename ThisTile::Shared), call, stream,
         "attention");
}

template <class Element>
void start(const AttentionArguments& call, cudaStream_t stream) {
  const int size = call.head_size > call.value_size ? call.head_size : call.value_size;
  if (size <= 64) return start<Element, 64>(call, stream);
  if (size <= 128) return start<Element, 128>(call, stream);
  start<Element, 256>(call, stream);
}

}  // namespace

void launch_attention(const AttentionArguments& arguments, DType dtype, cudaStream_t stream) {
  if (dtype == DType::float32) return start<float>(arguments, stream);
  if (dtype == DType::float16) return start<float16>(arguments, stream);
  start<bfloat16>(arguments, stream);
}

}  // namespace attnlib::cuda
