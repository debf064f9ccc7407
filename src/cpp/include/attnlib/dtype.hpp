// The element types of attnlib. Plain data only: kernels of every rung include this header, so nothing in it may
// emit code (an inline function compiled with AVX-512 flags could be the copy that the linker keeps for everyone).
#pragma once

#include <cstdint>

namespace attnlib {

// Storage formats of two bytes; arithmetic happens in float32.
struct float16 {
  std::uint16_t bits;
};
struct bfloat16 {
  std::uint16_t bits;
};

// The order is the index into every per-dtype row of the kernel table.
enum class DType : std::uint8_t { float32 = 0, float64 = 1, float16 = 2, bfloat16 = 3 };
constexpr int dtype_count = 4;

enum class Activation : std::uint8_t { none, relu, gelu, gelu_tanh, silu, tanh, sigmoid };
constexpr int activation_count = 7;

}  // namespace attnlib
