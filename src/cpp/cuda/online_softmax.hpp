// The softmax of a row that comes in parts (Milakov and Gimelshein, 2018, "Online normalizer calculation for softmax").
//
// The row's largest score so far and the sum of the exponentials relative to it are kept. A part whose maximum is
// larger scales down the sum, and whatever was accumulated with it, by 2^(old - new). Scores are in units of log2:
// `score · scale · log2(e)` is computed once, and 2^x is what the hardware has. All in float32, whatever the arrays
// are.
//
// A row that has seen nothing (maximum -inf) must not compute -inf - -inf: its exponentials are taken relative to 0,
// and are 0. NaN, or +inf, among the scores makes the sum NaN, as in NumPy.
#pragma once

#include <cmath>

#include "cuda/host_device.hpp"
#include "cuda/number.hpp"

namespace attnlib::cuda {

#define ATTNLIB_MINUS_INFINITY (-HUGE_VALF)

struct OnlineSoftmax {
  float maximum = ATTNLIB_MINUS_INFINITY;
  float sum = 0;

  // What exponentials are relative to.
  ATTNLIB_HOST_DEVICE float reference() const { return maximum == ATTNLIB_MINUS_INFINITY ? 0.0f : maximum; }
  ATTNLIB_HOST_DEVICE float exponential(float score) const { return exp2f(score - reference()); }

  // Takes a new part's maximum; what was accumulated before is to be multiplied by the result.
  ATTNLIB_HOST_DEVICE float raise(float part_maximum) {
    const float before = maximum;
    maximum = larger(maximum, part_maximum);
    const float factor = exp2f(before - reference());
    sum *= factor;
    return factor;
  }

  // The softmax of two disjoint parts together.
  ATTNLIB_HOST_DEVICE void join(const OnlineSoftmax& other) {
    const float before = other.maximum;
    const float others_sum = other.sum;
    raise(before);
    sum += others_sum * exp2f(before - reference());
  }

  // Zero for a row without anything: its outputs are zeros, not NaN.
  ATTNLIB_HOST_DEVICE float inverse_sum() const { return sum == 0.0f ? 0.0f : 1.0f / sum; }
};

}  // namespace attnlib::cuda
