#include "cuda/device_thread.cuh"
#include "cuda/launch.cuh"
#include "cuda/launch.hpp"
#include "cuda/softmax_rows.hpp"

namespace attnlib::cuda {
namespace {

template <class Element>
__global__ void __launch_bounds__(32 * SoftmaxRows<Element>::warps) softmax_kernel(const SoftmaxArguments call) {
  SoftmaxRows<Element>::run(DeviceThread{}, call);
}

template <class Element>
void start(const SoftmaxArguments& call, cudaStream_t stream) {
  constexpr int warps = SoftmaxRows<Element>::warps;
  launch(softmax_kernel<Element>, (call.rows + warps - 1) / warps, 32 * warps, 0, call, stream, "softmax");
}

}  // namespace

void launch_softmax(const SoftmaxArguments& arguments, DType dtype, cudaStream_t stream) {
  if (dtype == DType::float32) return start<float>(arguments, stream);
  if (dtype == DType::float16) return start<float16>(arguments, stream);
  start<bfloat16>(arguments, stream);
}

}  // namespace attnlib::cuda
