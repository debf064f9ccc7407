// Matrix products and linear layers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "attnlib/dtype.hpp"
#include "attnlib/tensor_view.hpp"

namespace attnlib {

// How the numbers of a packed weight are stored. The first four are those of DType.
enum class WeightFormat : std::uint8_t { float32, float64, float16, bfloat16, int8, int4 };

// A weight of shape (out_features, in_features), stored in the panels that the kernels in use read (see
// kernels/matmul.hpp): made once, used for every product.
class PackedWeight {
 public:
  static constexpr std::int64_t default_group_size = 32;

  // `weight` is (out_features, in_features), any strides. A float format must be the weight's own dtype; int8 and int4
  // quantise, group_size (32, 64 or 128) concerns int4 alone. std::invalid_argument for what cannot be quantised.
  PackedWeight(const TensorView& weight, WeightFormat format, std::int64_t group_size = default_group_size);
  // From what `quantized` gave.
  struct Quantized {
    WeightFormat format;
    std::int64_t out_features, in_features, group_size;
    std::unique_ptr<std::uint8_t[]> codes;  // (out_features, in_features): int8 as its bits, int4 as 0..15
    std::unique_ptr<float[]> scales;        // int8: (out_features,); int4: (out_features, groups)
    std::unique_ptr<float[]> minima;        // int4: (out_features, groups)
    std::unique_ptr<float[]> balance;       // int8: (in_features,)
    std::int64_t groups() const;
    Quantized rows(std::int64_t start, std::int64_t stop) const;
  };
  explicit PackedWeight(const Quantized& weight);
  // Panels that were laid out before, here or by another rung, in memory that is only read: of a file, say, that
  // several processes map. They stay where they are unless `copy` is wanted; where the
  // kernels in use read panels of another width they are laid out anew. std::invalid_argument unless `bytes` is what
  // such a weight takes; what is in them can be anything.
  struct Layout {
    WeightFormat format;
    std::int64_t out_features, in_features, group_size, panel_width;
  };
  static PackedWeight stored(const Layout& layout, std::shared_ptr<std::byte> memory, std::int64_t bytes, bool copy);
  Layout layout() const { return {format_, out_features_, in_features_, group_size_, panel_width_}; }

  std::int64_t out_features() const { return out_features_; }
  std::int64_t in_features() const { return in_features_; }
  WeightFormat format() const { return format_; }
  bool is_quantized() const { return format_ == WeightFormat::int8 || format_ == WeightFormat::int4; }
  // The dtype that `unpack` gives: float32 for int8 and int4.
  DType dtype() const { return is_quantized() ? DType::float32 : static_cast<DType>(format_); }
  std::int64_t group_size() const { return group_size_; }
  std::int64_t nbytes() const { return nbytes_; }
  std::int64_t panel_width() const { return panel_width_; }
  const std::byte* panels() const { return panels_.get(); }
  const float* column_scales() const { return column_scales_; }
  const std::int32_t* column_sums() const { return column_sums_; }
  const float* balance() const { return balance_; }
  // Writes the weight to a contiguous (out_features, in_features) array of dtype(): what products multiply by.
  void unpack(const TensorView& out) const;
  // The codes of a quantised weight, for storage.
  Quantized quantized() const;

 private:
  explicit PackedWeight(const Layout& layout);
  static std::int64_t bytes_of(const Layout& layout);
  void set_memory(std::shared_ptr<std::byte> memory);
  void pack_codes(const Quantized& weight);

  std::int64_t out_features_, in_features_, group_size_, panel_width_, nbytes_ = 0;
  WeightFormat format_;
  std::shared_ptr<std::byte> panels_;
  // int8: behind the panels, one for each column, padded to whole panels; one for each row, padded to whole registers.
  float* column_scales_ = nullptr;
  std::int32_t* column_sums_ = nullptr;
  float* balance_ = nullptr;
};

// std::invalid_argument for rows that are too long for int8 and int4.
void check_quantized_shape(const Shape& shape, WeightFormat format);

// The nearest codes of a weight, column by column (int8) or group by group (int4); see ops/quantize.cpp.
PackedWeight::Quantized quantize(const TensorView& weight, WeightFormat format, std::int64_t group_size);

// The shape of np.matmul(a, b), 1-D arguments promoted as it does: a (..., M, K) and b (..., K, N) give (..., M, N),
// the leading axes broadcast. std::invalid_argument if there is none.
Shape matmul_shape(const Shape& a, const Shape& b);

// out = a @ b, of matmul_shape. All of one dtype; a and out contiguous along the last axis, b of any strides. out
// overlaps neither.
void matmul(const TensorView& a, const TensorView& b, const TensorView& out);

// The shape of x @ weight.T, (..., out_features); `weight` is the shape (out_features, in_features).
// std::invalid_argument if x does not end in in_features.
Shape linear_shape(const Shape& x, const Shape& weight, const std::string& operation = "linear");

struct LinearOptions {
  const TensorView* bias = nullptr;      // (out_features,)
  const TensorView* residual = nullptr;  // the shape of out
  Activation activation = Activation::none;
  int threads = 0;  // at most these; 0: as many as the work is worth
  // For threads that stay together: of a packed weight's panels only the share of this one of so many members. The rest
  // of out stays as it is.
  std::int64_t member = 0, members = 1;
};

// out = activation(x @ weight.T + bias) + residual, of linear_shape. x, bias, residual and out are of one dtype and
// contiguous along the last axis. A plain weight has x's dtype and any strides; a packed one any format, but float64
// goes with float64 alone. out overlaps no input, but may be the residual itself. std::invalid_argument for a bias or
// residual of another shape.
void linear(const TensorView& x, const TensorView& weight, const LinearOptions& options, const TensorView& out);
void linear(const TensorView& x, const PackedWeight& weight, const LinearOptions& options, const TensorView& out);

// The same with a weight that lies in parts, the rows of one below those of the other. Threads share the parts.
void linear_in_parts(const TensorView& x, std::span<const PackedWeight* const> parts, const TensorView& out);

}  // namespace attnlib
