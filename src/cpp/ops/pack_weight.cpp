#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "attnlib/matmul.hpp"
#include "ops/half_precision.hpp"
#include "ops/panels.hpp"
#include "runtime/float_environment.hpp"
#include "runtime/interruption.hpp"
#include "runtime/memory.hpp"

namespace attnlib {
namespace {

// Where the panels of int4 keep a weight, and the scale and minimum of a group (kernels/matmul_int4.cpp).
struct Int4Place {
  std::int64_t width, group_size, groups;

  std::int64_t group_begin(std::int64_t column, std::int64_t group) const {
    return (column / width * groups + group) * (group_size / 2 + 4) * width;
  }
  // The byte; its high half holds the second four of every eight weights.
  std::int64_t byte(std::int64_t column, std::int64_t k) const {
    const std::int64_t within = k % group_size;
    return group_begin(column, k / group_size) + (within / 8 * width + column % width) * 4 + within % 4;
  }
  static bool is_high(std::int64_t k) { return k % 8 >= 4; }
  std::int64_t scale(std::int64_t column, std::int64_t group) const {
    return group_begin(column, group) + group_size / 2 * width + column % width * 2;
  }
  std::int64_t minimum(std::int64_t column, std::int64_t group) const { return scale(column, group) + width * 2; }
};

std::int64_t int8_byte(std::int64_t column, std::int64_t k, std::int64_t width, std::int64_t units) {
  return ((column / width * units + k / 4) * width + column % width) * 4 + k % 4;
}

}  // namespace

PackedWeight::PackedWeight(const TensorView& weight, WeightFormat format, std::int64_t group_size)
    : group_size_(group_size), format_(format) {
  if (weight.rank() != 2)
    throw std::invalid_argument("pack_weight: weight must be (out_features, in_features), got shape " +
                                weight.shape.to_string());
  out_features_ = weight.shape[0];
  in_features_ = weight.shape[1];
  panel_width_ = panel_width_of(kind_of(format));
  if (is_quantized()) {
    pack_codes(quantize(weight, format, group_size));
    return;
  }
  nbytes_ = panel_bytes(in_features_, out_features_, kind_of(format));
  panels_ = allocate_lasting(static_cast<std::size_t>(nbytes_));
  pack_panels(weight.at(0), weight.dtype, in_features_, out_features_, weight.strides[1], weight.strides[0],
              panels_.get(), kind_of(format), 0);
}

PackedWeight::PackedWeight(const Quantized& weight)
    : out_features_(weight.out_features),
      in_features_(weight.in_features),
      group_size_(weight.group_size),
      panel_width_(panel_width_of(kind_of(weight.format))),
      format_(weight.format) {
  pack_codes(weight);
}

PackedWeight::PackedWeight(const Layout& layout)
    : out_features_(layout.out_features),
      in_features_(layout.in_features),
      group_size_(layout.group_size),
      panel_width_(layout.panel_width),
      nbytes_(bytes_of(layout)),
      format_(layout.format) {}

PackedWeight PackedWeight::stored(const Layout& layout, std::shared_ptr<std::byte> memory, std::int64_t bytes,
                                  bool copy) {
  const auto refuse = [](const std::string& why) { throw std::invalid_argument("PackedWeight: " + why); };
  const std::int64_t rows = layout.out_features, columns = layout.in_features, width = layout.panel_width;
  constexpr double most_elements = 0x1p50;  // sizes are counted in 64 bits
  if (rows < 0 || columns < 0 || static_cast<double>(rows) > 0x1p40 || static_cast<double>(columns) > 0x1p40 ||
      static_cast<double>(rows) * static_cast<double>(columns) > most_elements)
    refuse("impossible shape (" + std::to_string(rows) + ", " + std::to_string(columns) + ")");
  if (width < 1 || width > 1024) refuse("impossible panels of " + std::to_string(width) + " columns");
  const bool int4 = layout.format == WeightFormat::int4;
  if (layout.group_size != 32 && (!int4 || (layout.group_size != 64 && layout.group_size != 128)))
    refuse("impossible groups of " + std::to_string(layout.group_size));
  if (layout.format == WeightFormat::int8 || int4) check_quantized_shape({rows, columns}, layout.format);
  if (bytes_of(layout) != bytes)
    refuse("a weight of shape (" + std::to_string(rows) + ", " + std::to_string(columns) + ") takes " +
           std::to_string(bytes_of(layout)) + " bytes, got " + std::to_string(bytes));
  PackedWeight weight(layout);
  weight.set_memory(std::move(memory));
  const bool laid_out_so = width == panel_width_of(kind_of(layout.format));
  if ((copy && laid_out_so) || reinterpret_cast<std::uintptr_t>(weight.panels()) % 64 != 0) {
    std::shared_ptr<std::byte> own = allocate_lasting(static_cast<std::size_t>(bytes));
    std::copy_n(weight.panels(), bytes, own.get());
    weight.set_memory(std::move(own));
  }
  if (laid_out_so) return weight;
  if (weight.is_quantized()) return PackedWeight(weight.quantized());
  const Memory plain = allocate(static_cast<std::size_t>(rows * columns * dtype_size(weight.dtype())));
  TensorView view;
  view.data = plain.get();
  view.dtype = weight.dtype();
  view.shape = {rows, columns};
  view.strides = {columns, 1};
  weight.unpack(view);
  return PackedWeight(view, layout.format);
}

std::int64_t PackedWeight::bytes_of(const Layout& layout) {
  const std::int64_t width = layout.panel_width;
  const std::int64_t bytes =
      panel_bytes(layout.in_features, layout.out_features, kind_of(layout.format), layout.group_size, width);
  if (layout.format != WeightFormat::int8) return bytes;
  const std::int64_t columns = (layout.out_features + width - 1) / width * width;
  return (bytes + 63) / 64 * 64 + (2 * columns + (layout.in_features + 15) / 16 * 16) * 4;
}

void PackedWeight::set_memory(std::shared_ptr<std::byte> memory) {
  panels_ = std::move(memory);
  if (format_ != WeightFormat::int8) return;
  const std::int64_t columns = (out_features_ + panel_width_ - 1) / panel_width_ * panel_width_;
  const std::int64_t depths = (in_features_ + 15) / 16 * 16;
  column_scales_ = reinterpret_cast<float*>(panels_.get() + nbytes_ - (2 * columns + depths) * 4);
  column_sums_ = reinterpret_cast<std::int32_t*>(column_scales_ + columns);
  balance_ = reinterpret_cast<float*>(column_sums_ + columns);
}

void PackedWeight::pack_codes(const Quantized& weight) {
  nbytes_ = bytes_of(layout());
  set_memory(allocate_lasting(static_cast<std::size_t>(nbytes_)));
  std::memset(panels_.get(), 0, static_cast<std::size_t>(nbytes_));
  auto* codes = reinterpret_cast<std::uint8_t*>(panels_.get());
  if (format_ == WeightFormat::int8) {
    std::copy_n(weight.balance.get(), in_features_, balance_);
    const std::int64_t units = (in_features_ + 3) / 4;
    for (std::int64_t n = 0; n < out_features_; ++n) {
      interruption_point();
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < in_features_; ++k) {
        const std::uint8_t code = weight.codes[static_cast<std::size_t>(n * in_features_ + k)];
        codes[int8_byte(n, k, panel_width_, units)] = code;
        sum += static_cast<std::int8_t>(code);
      }
      column_scales_[n] = weight.scales[static_cast<std::size_t>(n)];
      column_sums_[n] = sum;
    }
    return;
  }
  const Int4Place place{panel_width_, group_size_, weight.groups()};
  for (std::int64_t n = 0; n < out_features_; ++n) {
    interruption_point();
    for (std::int64_t k = 0; k < in_features_; ++k) {
      const unsigned code = weight.codes[static_cast<std::size_t>(n * in_features_ + k)];
      auto& byte = codes[place.byte(n, k)];
      byte = static_cast<std::uint8_t>(byte | code << (Int4Place::is_high(k) ? 4 : 0));
    }
    for (std::int64_t g = 0; g < place.groups; ++g) {
      const auto index = static_cast<std::size_t>(n * place.groups + g);
      const float16 scale = to_float16(weight.scales[index]), minimum = to_float16(weight.minima[index]);
      std::memcpy(codes + place.scale(n, g), &scale, sizeof scale);
      std::memcpy(codes + place.minimum(n, g), &minimum, sizeof minimum);
    }
  }
}

PackedWeight::Quantized PackedWeight::quantized() const {
  Quantized result{format_, out_features_, in_features_, group_size_, {}, {}, {}, {}};
  const std::int64_t groups = result.groups();
  const auto count = [](std::int64_t n) { return static_cast<std::size_t>(std::max<std::int64_t>(n, 1)); };
  result.codes = std::make_unique<std::uint8_t[]>(count(out_features_ * in_features_));
  result.scales = std::make_unique<float[]>(count(out_features_ * groups));
  const auto* codes = reinterpret_cast<const std::uint8_t*>(panels_.get());
  if (format_ == WeightFormat::int8) {
    const std::int64_t units = (in_features_ + 3) / 4;
    for (std::int64_t n = 0; n < out_features_; ++n) {
      result.scales[static_cast<std::size_t>(n)] = column_scales_[n];
      for (std::int64_t k = 0; k < in_features_; ++k)
        result.codes[static_cast<std::size_t>(n * in_features_ + k)] = codes[int8_byte(n, k, panel_width_, units)];
    }
    result.balance = std::make_unique<float[]>(count(in_features_));
    std::copy_n(balance_, in_features_, result.balance.get());
    return result;
  }
  result.minima = std::make_unique<float[]>(count(out_features_ * groups));
  const Int4Place place{panel_width_, group_size_, groups};
  for (std::int64_t n = 0; n < out_features_; ++n) {
    for (std::int64_t k = 0; k < in_features_; ++k)
      result.codes[static_cast<std::size_t>(n * in_features_ + k)] =
          static_cast<std::uint8_t>(codes[place.byte(n, k)] >> (Int4Place::is_high(k) ? 4 : 0) & 0xf);
    for (std::int64_t g = 0; g < groups; ++g) {
      float16 scale, minimum;
      std::memcpy(&scale, codes + place.scale(n, g), sizeof scale);
      std::memcpy(&minimum, codes + place.minimum(n, g), sizeof minimum);
      result.scales[static_cast<std::size_t>(n * groups + g)] = widened(scale);
      result.minima[static_cast<std::size_t>(n * groups + g)] = widened(minimum);
    }
  }
  return result;
}

void PackedWeight::unpack(const TensorView& out) const {
  const FloatEnvironment environment;
  if (is_quantized()) {
    const Quantized weight = quantized();
    const std::int64_t groups = weight.groups();
    auto* target = static_cast<float*>(out.data);
    for (std::int64_t n = 0; n < out_features_; ++n)
      for (std::int64_t k = 0; k < in_features_; ++k) {
        const auto index = static_cast<std::size_t>(n * in_features_ + k);
        if (format_ == WeightFormat::int8) {
          const float code = static_cast<std::int8_t>(weight.codes[index]);
          target[index] = code * weight.scales[static_cast<std::size_t>(n)] * balance_[k];
        } else {
          const auto group = static_cast<std::size_t>(n * groups + k / group_size_);
          target[index] = static_cast<float>(weight.codes[index]) * weight.scales[group] + weight.minima[group];
        }
      }
    return;
  }
  const std::int64_t size = dtype_size(dtype());
  const std::int64_t unit = unit_depth(kind_of(format_));  // bfloat16 lies in pairs
  const std::int64_t units = (in_features_ + unit - 1) / unit;
  for (std::int64_t n = 0; n < out_features_; ++n) {
    const std::byte* column =
        panels_.get() + (n / panel_width_ * units * panel_width_ + n % panel_width_) * unit * size;
    for (std::int64_t k = 0; k < in_features_; ++k)
      std::memcpy(out.at(n * in_features_ + k), column + (k / unit * panel_width_ * unit + k % unit) * size,
                  static_cast<std::size_t>(size));
  }
}

}  // namespace attnlib
