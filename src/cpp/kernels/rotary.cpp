#include "kernels/rotary.hpp"

#include "kernels/row_vectors.hpp"

namespace attnlib::ATTNLIB_ISA {

// A register of the features with the same place in their planes.
template <class C>
struct Planes {
  vec<C> first, second;
};

template <class C>
ATTNLIB_INLINE Planes<C> turn(Planes<C> x, vec<C> cosine, vec<C> sine) {
  return {fma(x.first, cosine, -(x.second * sine)), fma(x.second, cosine, x.first * sine)};
}

template <class T>
static void turn_halves(const T* x, const T* cosine, const T* sine, T* out, std::int64_t planes) noexcept {
  using C = compute_type<T>;
  for_each_vector<C>(planes, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
    const Planes<C> turned = turn<C>({load_lanes(x + i, count), load_lanes(x + planes + i, count)},
                                     load_lanes(cosine + i, count), load_lanes(sine + i, count));
    store_lanes(out + i, turned.first, count);
    store_lanes(out + planes + i, turned.second, count);
  });
}

template <class T>
static void turn_pairs(const T* x, const T* cosine, const T* sine, T* out, std::int64_t planes) noexcept {
  using C = compute_type<T>;
  constexpr int width = lanes<C>;
  const mask_vec<C> lane = lane_index<C>();
  const mask_vec<C> even = lane + lane;
  const mask_vec<C> low = (lane >> 1) + (lane & 1) * width;
  for_each_vector<C>(planes, [&](std::int64_t i, int count, int) __attribute__((always_inline)) {
    // 2 * count features in two registers; either may be partly or wholly beyond the row.
    const int head = 2 * count < width ? 2 * count : width;
    const int rest = 2 * count - head;
    const vec<C> a = load_lanes(x + 2 * i, head);
    const vec<C> b = rest == 0 ? zero<C>() : load_lanes(x + 2 * i + width, rest);
    const Planes<C> turned = turn<C>({pick_lanes<C>(a, b, even), pick_lanes<C>(a, b, even + 1)},
                                     load_lanes(cosine + i, count), load_lanes(sine + i, count));
    store_lanes(out + 2 * i, pick_lanes<C>(turned.first, turned.second, low), head);
    if (rest != 0) store_lanes(out + 2 * i + width, pick_lanes<C>(turned.first, turned.second, low + width / 2), rest);
  });
}

template <class T>
static void rotary(const RotaryRows& rows) noexcept {
  const std::int64_t turned = 2 * rows.planes;
  for (std::int64_t row = 0; row < rows.rows; ++row) {
    const std::int64_t position = rows.positions == nullptr ? row : rows.positions[row];
    const T* x = static_cast<const T*>(rows.x) + row * rows.x_stride;
    const T* cosine = static_cast<const T*>(rows.cos) + position * rows.cos_stride;
    const T* sine = static_cast<const T*>(rows.sin) + position * rows.sin_stride;
    T* out = static_cast<T*>(rows.out) + row * rows.out_stride;
    if (rows.interleaved)
      turn_pairs(x, cosine, sine, out, rows.planes);
    else
      turn_halves(x, cosine, sine, out, rows.planes);
    if (out != x && turned < rows.features)
      __builtin_memcpy(out + turned, x + turned, static_cast<unsigned long>(rows.features - turned) * sizeof(T));
  }
}

extern const RotaryKernels rotary_kernels;
extern constinit const RotaryKernels rotary_kernels = {
    {rotary<float>, rotary<double>, rotary<float16>, rotary<bfloat16>},
};

}  // namespace attnlib::ATTNLIB_ISA
