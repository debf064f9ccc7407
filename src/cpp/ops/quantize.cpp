// From float weights to codes of 8 or 4 bits. Plain C++, so that every rung stores the same numbers.
//
// int8: w[n, k] ~ t[n] c[k] q[n, k], q in -127..127. c[k], the balance, is the square root of the root mean square of
// the weight's column k (over the mean of these): half of what makes one column larger than another moves to the input,
// whose column k is multiplied by it, which makes both easier to hold in few bits (after G. Xiao et al., "SmoothQuant",
// 2022, arXiv:2211.10438, but without data). t[n] = max_k |w[n, k] / c[k]| / 127. An error of at most t[n] c[k] / 2; a
// single huge weight makes that of its whole row large. int4: in each group of the row, w ~ t q + m with q in 0..15, m
// its minimum and t = (max - m) / 15, both rounded to float16; an error of at most t / 2 and what that rounding adds
// (2^-11 of |m| and of 15 t). Rows and groups of zeros stay exactly zero.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "attnlib/matmul.hpp"
#include "ops/half_precision.hpp"
#include "runtime/interruption.hpp"

namespace attnlib {
namespace {

double element(const TensorView& view, std::int64_t offset) {
  const std::byte* place = view.at(offset);
  switch (view.dtype) {
    case DType::float64:
      return *reinterpret_cast<const double*>(place);
    case DType::float32:
      return static_cast<double>(*reinterpret_cast<const float*>(place));
    case DType::float16:
      return static_cast<double>(widened(*reinterpret_cast<const float16*>(place)));
    case DType::bfloat16:
      break;
  }
  return static_cast<double>(widened(*reinterpret_cast<const bfloat16*>(place)));
}

std::string name_of(WeightFormat format) { return format == WeightFormat::int8 ? "int8" : "int4"; }

// One row as float32, checked.
void read_row(const TensorView& weight, std::int64_t n, WeightFormat format, float* row) {
  for (std::int64_t k = 0; k < weight.shape[1]; ++k) {
    row[k] = static_cast<float>(element(weight, n * weight.strides[0] + k * weight.strides[1]));
    if (!std::isfinite(row[k]))
      throw std::invalid_argument("pack_weight: weight holds " + std::to_string(row[k]) + " at [" + std::to_string(n) +
                                  ", " + std::to_string(k) + "], which " + name_of(format) + " cannot");
  }
}

// 1 for a weight of zeros; a column of (nearly) nothing counts as a thousandth of the largest.
void balance_columns(const TensorView& weight, float* balance) {
  const std::int64_t rows = weight.shape[0], size = weight.shape[1];
  std::vector<double> level(static_cast<std::size_t>(size), 0.0);
  std::vector<float> row(static_cast<std::size_t>(size));
  for (std::int64_t n = 0; n < rows; ++n) {
    interruption_point();
    read_row(weight, n, WeightFormat::int8, row.data());
    for (std::size_t k = 0; k < row.size(); ++k) level[k] += static_cast<double>(row[k]) * static_cast<double>(row[k]);
  }
  const double largest = size == 0 ? 0.0 : *std::max_element(level.begin(), level.end());
  double sum = 0.0;
  for (double& one : level) {
    one = largest == 0.0 ? 1.0 : std::sqrt(std::sqrt(std::max(one / largest, 1e-6)));
    sum += one;
  }
  for (std::size_t k = 0; k < level.size(); ++k)
    balance[k] = static_cast<float>(level[k] * static_cast<double>(size) / sum);
}

void quantize_row_int8(const float* row, std::int64_t size, float& scale, std::uint8_t* codes) {
  float largest = 0.0f;
  for (std::int64_t k = 0; k < size; ++k) largest = std::max(largest, std::fabs(row[k]));
  scale = largest / 127.0f;
  // So small that codes would overflow the division: zero.
  if (scale < 0x1p-126f) scale = 0.0f;
  for (std::int64_t k = 0; k < size; ++k) {
    const float code = scale == 0.0f ? 0.0f : std::clamp(std::nearbyint(row[k] / scale), -127.0f, 127.0f);
    codes[k] = static_cast<std::uint8_t>(static_cast<std::int8_t>(code));
  }
}

void quantize_group_int4(const float* group, std::int64_t size, float& scale, float& minimum, std::uint8_t* codes) {
  const auto [low, high] = std::minmax_element(group, group + size);
  minimum = widened(to_float16(*low));
  scale = widened(to_float16(std::max(*high / 15.0f - minimum / 15.0f, 0.0f)));
  if (!std::isfinite(minimum) || !std::isfinite(scale))
    throw std::invalid_argument("pack_weight: weight holds " + std::to_string(std::fabs(*low) > *high ? *low : *high) +
                                ", which is beyond the scales of int4 (float16)");
  for (std::int64_t k = 0; k < size; ++k) {
    const float code = scale == 0.0f ? 0.0f : std::clamp(std::nearbyint((group[k] - minimum) / scale), 0.0f, 15.0f);
    codes[k] = static_cast<std::uint8_t>(code);
  }
}

}  // namespace

void check_quantized_shape(const Shape& shape, WeightFormat format) {
  // Beyond that the sums of int8 products would not fit into 32 bits.
  constexpr std::int64_t longest = 65536;
  if (shape[1] > longest)
    throw std::invalid_argument("pack_weight: " + name_of(format) + " holds at most " + std::to_string(longest) +
                                " in_features, got weight of shape " + shape.to_string());
}

std::int64_t PackedWeight::Quantized::groups() const {
  return format == WeightFormat::int8 ? 1 : (in_features + group_size - 1) / group_size;
}

PackedWeight::Quantized PackedWeight::Quantized::rows(std::int64_t start, std::int64_t stop) const {
  Quantized part{format, stop - start, in_features, group_size, {}, {}, {}, {}};
  const auto copied = [](const auto& values, std::int64_t first, std::int64_t last) {
    using Array = std::remove_cvref_t<decltype(values)>;
    if (!values) return Array{};
    auto copy = std::make_unique<typename Array::element_type[]>(
        static_cast<std::size_t>(std::max<std::int64_t>(last - first, 1)));
    std::copy(values.get() + first, values.get() + last, copy.get());
    return copy;
  };
  part.codes = copied(codes, start * in_features, stop * in_features);
  part.scales = copied(scales, start * groups(), stop * groups());
  part.minima = copied(minima, start * groups(), stop * groups());
  part.balance = copied(balance, 0, in_features);
  return part;
}

PackedWeight::Quantized quantize(const TensorView& weight, WeightFormat format, std::int64_t group_size) {
  if (weight.rank() != 2)
    throw std::invalid_argument("pack_weight: weight must be (out_features, in_features), got shape " +
                                weight.shape.to_string());
  check_quantized_shape(weight.shape, format);
  if (format == WeightFormat::int4 && group_size != 32 && group_size != 64 && group_size != 128)
    throw std::invalid_argument("pack_weight: group_size must be 32, 64 or 128, got " + std::to_string(group_size));
  PackedWeight::Quantized result{format, weight.shape[0], weight.shape[1], group_size, {}, {}, {}, {}};
  const std::int64_t rows = result.out_features, size = result.in_features, groups = result.groups();
  const auto count = [](std::int64_t n) { return static_cast<std::size_t>(std::max<std::int64_t>(n, 1)); };
  result.codes = std::make_unique<std::uint8_t[]>(count(rows * size));
  result.scales = std::make_unique<float[]>(count(rows * groups));
  if (format == WeightFormat::int4) result.minima = std::make_unique<float[]>(count(rows * groups));
  const auto row = std::make_unique<float[]>(count(size));
  if (format == WeightFormat::int8) {
    result.balance = std::make_unique<float[]>(count(size));
    balance_columns(weight, result.balance.get());
  }
  for (std::int64_t n = 0; n < rows; ++n) {
    interruption_point();
    read_row(weight, n, format, row.get());
    if (format == WeightFormat::int8) {
      for (std::int64_t k = 0; k < size; ++k)
        row[static_cast<std::size_t>(k)] /= result.balance[static_cast<std::size_t>(k)];
      quantize_row_int8(row.get(), size, result.scales[static_cast<std::size_t>(n)], result.codes.get() + n * size);
      continue;
    }
    for (std::int64_t g = 0; g < groups; ++g) {
      const auto place = static_cast<std::size_t>(n * groups + g);
      const std::int64_t first = g * group_size;
      quantize_group_int4(row.get() + first, std::min(group_size, size - first), result.scales[place],
                          result.minima[place], result.codes.get() + n * size + first);
    }
  }
  return result;
}

}  // namespace attnlib
