// Softmax along one axis: a warp for each row, in two passes. The first finds maximum and sum together
// (online_softmax.hpp), each lane over every 32nd element; the lanes' are joined by shuffles. The second writes.
#pragma once

#include "cuda/leading_axes.hpp"
#include "cuda/number.hpp"
#include "cuda/online_softmax.hpp"

namespace attnlib::cuda {

struct SoftmaxArguments {
  const void* x;
  void* out;
  LeadingAxes<2> rows_at;  // x, out: all axes but that of the softmax
  std::int64_t rows, n;
  std::int64_t x_step, out_step;  // from one element of a row to the next
};

template <class Element>
struct SoftmaxRows {
  static constexpr int warps = 8;

  template <class Thread>
  ATTNLIB_HOST_DEVICE static void run(const Thread& thread, const SoftmaxArguments& call) {
    const std::int64_t row = thread.block() * warps + thread.warp();
    if (row >= call.rows) return;  // the whole warp
    std::int64_t at[2];
    call.rows_at.offsets(row, at);
    const Element* const x = static_cast<const Element*>(call.x) + at[0];
    Element* const out = static_cast<Element*>(call.out) + at[1];
    OnlineSoftmax softmax;
    for (std::int64_t i = thread.lane(); i < call.n; i += 32) {
      const float score = to_float(x[i * call.x_step]) * log2_e;
      softmax.raise(score);
      softmax.sum += softmax.exponential(score);
    }
    for (int mask = 16; mask > 0; mask /= 2) {
      OnlineSoftmax other;
      other.maximum = thread.shuffle_xor(softmax.maximum, mask);
      other.sum = thread.shuffle_xor(softmax.sum, mask);
      softmax.join(other);
    }
    const float inverse = softmax.inverse_sum();
    for (std::int64_t i = thread.lane(); i < call.n; i += 32)
      store_number(out + i * call.out_step, softmax.exponential(to_float(x[i * call.x_step]) * log2_e) * inverse);
  }
};

}  // namespace attnlib::cuda
