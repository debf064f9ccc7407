#include "kernels/activation.hpp"

#include "kernels/row_vectors.hpp"
#include "kernels/simd/math.hpp"

namespace attnlib::ATTNLIB_ISA {

// One register an iteration: the elements are independent, so the processor overlaps the iterations by itself, and one
// copy of the function serves full registers and the tail.
template <class T, class Function>
ATTNLIB_INLINE void map_rows(const ActivationRows& rows, Function function) {
  constexpr int width = lanes<compute_type<T>>;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const T* x = static_cast<const T*>(rows.x) + row * rows.x_stride;
    T* out = static_cast<T*>(rows.out) + row * rows.out_stride;
    for (std::int64_t i = 0; i < rows.n; i += width) {
      const int count = rows.n - i < width ? static_cast<int>(rows.n - i) : width;
      const auto value = function(load_lanes(x + i, count), row, i, count);
      rows.streamed ? store_result<true>(out + i, value, count) : store_result<false>(out + i, value, count);
    }
  }
  if (rows.streamed) end_streaming();
}

template <class T, Activation kind>
static void activate_rows(const ActivationRows& rows) noexcept {
  using C = compute_type<T>;
  map_rows<T>(rows, [](vec<C> x, std::int64_t, std::int64_t, int)
                        __attribute__((always_inline)) { return activate<C>(kind, x); });
}

template <class T>
static void swiglu(const ActivationRows& rows) noexcept {
  using C = compute_type<T>;
  map_rows<T>(rows, [&](vec<C> gate, std::int64_t row, std::int64_t i, int count) __attribute__((always_inline)) {
    return silu<C>(gate) * load_lanes(static_cast<const T*>(rows.up) + row * rows.up_stride + i, count);
  });
}

#define ATTNLIB_ROW(kind)                                                           \
  {activate_rows<float, Activation::kind>, activate_rows<double, Activation::kind>, \
   activate_rows<float16, Activation::kind>, activate_rows<bfloat16, Activation::kind>}

extern const ActivationKernels activation_kernels;
extern constinit const ActivationKernels activation_kernels = {
    {{},
     ATTNLIB_ROW(relu),
     ATTNLIB_ROW(gelu),
     ATTNLIB_ROW(gelu_tanh),
     ATTNLIB_ROW(silu),
     ATTNLIB_ROW(tanh),
     ATTNLIB_ROW(sigmoid)},
    {swiglu<float>, swiglu<double>, swiglu<float16>, swiglu<bfloat16>},
};

}  // namespace attnlib::ATTNLIB_ISA
