// The element types of attnlib. Plain data only: kernels of every rung include this header, so nothing in it may
// emit code (an inline function compiled with AVX-512 flags could be the copy that the linker keeps for everyone).
#pragma once

#include <cstdint>

namespace attnlib {

// Storage formats of two bytes, IEEE 754 binary16 and the upper half of a float32; arithmetic happens in float32, which
// is then the *compute dtype* that other headers speak of. That of float32 and float64 is themselves.
struct float16 {
  std::uint16_t bits;
};
struct bfloat16 {
  std::uint16_t bits;
};

// The order is the index into every per-dtype row of the kernel table.
enum class DType : std::uint8_t { float32 = 0, float64 = 1, float16 = 2, bfloat16 = 3 };
constexpr int dtype_count = 4;

// Functions of one element: attnlib/activation.hpp. `gelu` is the exact one, x * Phi(x); `gelu_tanh` its approximation.
enum class Activation : std::uint8_t { none, relu, gelu, gelu_tanh, silu, tanh, sigmoid };
constexpr int activation_count = 7;

}  // namespace attnlib
