// Matrix products and linear layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "attnlib/dtype.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

// A weight of shape (out_features, in_features), stored in the panels that the kernels in use read (see
// kernels/matmul.hpp): made once, used for every product.
class PackedWeight {
 public:
  // `weight` is (out_features, in_features), any strides; it is stored in its own dtype.
  explicit PackedWeight(const TensorView& weight);

  std::int64_t out_features() const { return out_features_; }
  std::int64_t in_features() const { return in_features_; }
  DType dtype() const { return dtype_; }
  std::int64_t nbytes() const { return nbytes_; }
  std::int64_t panel_width() const { return panel_width_; }
  const std::byte* panels() const { return panels_.get(); }
  // Writes the weight to a contiguous (out_features, in_features) array of its dtype.
  void unpack(const TensorView& out) const;

 private:
  struct AlignedDelete {
    void operator()(std::byte* memory) const;
  };
  std::int64_t out_features_, in_features_, panel_width_, nbytes_;
  DType dtype_;
  std::unique_ptr<std::byte[], AlignedDelete> panels_;
};

// The shape of np.matmul(a, b), 1-D arguments promoted as it does.
Shape matmul_shape(const Shape& a, const Shape& b);

// out = a @ b. All of one dtype; a and out contiguous along the last axis, b of any strides.
void matmul(const TensorView& a, const TensorView& b, const TensorView& out);

// The shape of x @ weight.T, checked; `weight` is the shape (out_features, in_features).
Shape linear_shape(const Shape& x, const Shape& weight);

struct LinearOptions {
  const TensorView* bias = nullptr;      // (out_features,)
  const TensorView* residual = nullptr;  // the shape of out
  Activation activation = Activation::none;
};

// out = activation(x @ weight.T + bias) + residual. x, bias, residual and out are of one dtype and contiguous along
// the last axis. A float64 weight goes with float64 alone.
void linear(const TensorView& x, const TensorView& weight, const LinearOptions& options, const TensorView& out);
void linear(const TensorView& x, const PackedWeight& weight, const LinearOptions& options, const TensorView& out);

}  // namespace attnlib
