// What stacks of layers in one call are made of: matrices in one block of scratch memory, shares of products and norms
// for threads that stay together, and the checks of a layer's parts.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "attnlib/matmul.hpp"
#include "attnlib/normalization.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {

// One of the threads that stay together.
struct Member {
  std::int64_t index, count;

  // Where its share of so many things begins, and how many it has.
  std::pair<std::int64_t, std::int64_t> share(std::int64_t things) const {
    const std::int64_t begin = share_begin(things, index, count);
    return {begin, share_begin(things, index + 1, count) - begin};
  }
};

// `count` extents of an axis from `first` on.
inline TensorView part_of(TensorView view, int axis, std::int64_t first, std::int64_t count) {
  view.data = view.at(first * view.strides[axis]);
  view.shape[axis] = count;
  return view;
}

// Matrices of one row a token, each of at most the width it is made with; they begin with cache lines.
class TokenMatrices {
 public:
  TokenMatrices(std::int64_t tokens, DType dtype, std::initializer_list<std::int64_t> widths)
      : tokens_(tokens), dtype_(dtype), memory_(all_bytes(widths)) {
    std::byte* here = memory_.as<std::byte>();
    for (const std::int64_t width : widths) {
      places_.push_back(here);
      here += whole_lines(width);
    }
  }

  TensorView matrix(std::size_t place, std::int64_t width) const {
    return contiguous_view(places_[place], {tokens_, width}, dtype_);
  }
  // The same as (T, heads, size).
  TensorView heads(std::size_t place, std::int64_t heads, std::int64_t size) const {
    return contiguous_view(places_[place], {tokens_, heads, size}, dtype_);
  }

 private:
  std::int64_t whole_lines(std::int64_t width) const { return (tokens_ * width * dtype_size(dtype_) + 63) / 64 * 64; }
  std::int64_t all_bytes(std::initializer_list<std::int64_t> widths) const {
    std::int64_t bytes = 0;
    for (const std::int64_t width : widths) bytes += whole_lines(width);
    return bytes;
  }

  std::int64_t tokens_;
  DType dtype_;
  Scratch memory_;
  std::vector<std::byte*> places_;
};

inline void multiply_share(const TensorView& from, const PackedWeight& weight, LinearOptions options,
                           const TensorView& to, Member member) {
  options.threads = 1;
  options.member = member.index;
  options.members = member.count;
  linear(from, weight, options, to);
}

inline void normalise_share(const TensorView& from, const NormParts& norm, const TensorView& to, Member member) {
  const auto [row, count] = member.share(from.shape[0]);
  if (count == 0) return;
  layer_norm(part_of(from, 0, row, count), norm.weight, norm.bias, norm.eps, nullptr, part_of(to, 0, row, count));
}

// Throws std::invalid_argument, beginning with `context`, for a part of a layer that does not fit.
struct LayerCheck {
  std::string context;

  void shape(const char* name, const Shape& found, const Shape& wanted) const {
    if (!(found == wanted))
      throw std::invalid_argument(context + ": " + name + " must be " + wanted.to_string() + ", got shape " +
                                  found.to_string());
  }
  void weight(const char* name, const PackedWeight& weight, std::int64_t rows, std::int64_t columns) const {
    shape(name, {weight.out_features(), weight.in_features()}, {rows, columns});
  }
  void bias(const char* name, const TensorView* bias, std::int64_t size) const {
    if (bias != nullptr) shape(name, bias->shape, {size});
  }
  void norm(const char* name, const TensorView& x, const NormParts& norm) const {
    check_normalization(context + ": " + name, x, norm.weight, norm.bias, norm.eps, nullptr);
  }
  void heads(std::int64_t heads, std::int64_t width) const {
    if (heads < 1 || width % heads != 0)
      throw std::invalid_argument(context + ": heads must divide E = " + std::to_string(width) + ", got " +
                                  std::to_string(heads));
  }
};

}  // namespace attnlib
