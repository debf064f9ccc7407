#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "attnlib/matmul.hpp"
#include "ops/product.hpp"

namespace attnlib {

void PackedWeight::AlignedDelete::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{64});
}

PackedWeight::PackedWeight(const TensorView& weight) : dtype_(weight.dtype) {
  if (weight.rank() != 2)
    throw std::invalid_argument("pack_weight: weight must be (out_features, in_features), got shape " +
                                weight.shape.to_string());
  out_features_ = weight.shape[0];
  in_features_ = weight.shape[1];
  panel_width_ = panel_width_of(dtype_);
  nbytes_ = panel_bytes(in_features_, out_features_, dtype_);
  panels_.reset(static_cast<std::byte*>(
      ::operator new[](static_cast<std::size_t>(std::max<std::int64_t>(nbytes_, 1)), std::align_val_t{64})));
  pack_panels(weight.at(0), dtype_, in_features_, out_features_, weight.strides[1], weight.strides[0], panels_.get(),
              dtype_, 0);
}

void PackedWeight::unpack(const TensorView& out) const {
  const std::int64_t size = dtype_size(dtype_);
  for (std::int64_t n = 0; n < out_features_; ++n) {
    const std::byte* column =
        panels_.get() + (n / panel_width_ * in_features_ * panel_width_ + n % panel_width_) * size;
    for (std::int64_t k = 0; k < in_features_; ++k)
      std::memcpy(out.at(n * in_features_ + k), column + k * panel_width_ * size, static_cast<std::size_t>(size));
  }
}

}  // namespace attnlib
