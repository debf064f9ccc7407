// Products, softmax and attention through the installed headers, against loops in double precision.
//
// Prints each largest error in units of its bound; the exit code is 1 if one is beyond.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "attnlib/activation.hpp"
#include "attnlib/attention.hpp"
#include "attnlib/c_api.h"
#include "attnlib/cached_self_attention.hpp"
#include "attnlib/ceiling.hpp"
#include "attnlib/decoder_layers.hpp"
#include "attnlib/dtype.hpp"
#include "attnlib/embedding.hpp"
#include "attnlib/encoder_layers.hpp"
#include "attnlib/gated_feed_forward.hpp"
#include "attnlib/lstm_steps.hpp"
#include "attnlib/matmul.hpp"
#include "attnlib/normalization.hpp"
#include "attnlib/rotary.hpp"
#include "attnlib/runtime.hpp"
#include "attnlib/softmax.hpp"
#include "attnlib/tensor_view.hpp"

namespace {

using attnlib::DType;
using attnlib::Shape;
using attnlib::TensorView;

bool all_near = true;

// An array of its own, of float or double.
template <class Number>
class Array {
 public:
  explicit Array(const Shape& shape) : shape_(shape), numbers_(static_cast<std::size_t>(shape.size())) {}
  static Array random(const Shape& shape, std::uint32_t seed) {
    Array array(shape);
    for (Number& number : array.numbers_) {
      seed = seed * 1664525u + 1013904223u;
      number = static_cast<Number>(static_cast<std::int32_t>(seed) >> 8) / static_cast<Number>(1 << 23);
    }
    return array;
  }
  TensorView view() const {
    return contiguous_view(numbers_.data(), shape_, sizeof(Number) == 8 ? DType::float64 : DType::float32);
  }
  double operator[](std::int64_t index) const { return static_cast<double>(numbers_[static_cast<std::size_t>(index)]); }

 private:
  Shape shape_;
  std::vector<Number> numbers_;
};

// The largest error of a result, in units of its bound: a small multiple of eps and of the magnitudes summed.
template <class Number>
class Comparison {
 public:
  explicit Comparison(const char* name) : name_(name) {}
  void add(double found, double expected, double magnitudes) {
    const double eps = sizeof(Number) == 8 ? 0x1p-52 : 0x1p-23;
    const double error = std::abs(found - expected) / (eps * magnitudes);
    worst_ = std::isnan(error) ? INFINITY : std::max(worst_, error);
  }
  ~Comparison() {
    std::printf("%s %-24s %.3f\n", sizeof(Number) == 8 ? "float64" : "float32", name_, worst_);
    all_near = all_near && worst_ <= 1.0;
  }

 private:
  const char* name_;
  double worst_ = 0.0;
};

template <class Number>
void products() {
  constexpr std::int64_t rows = 7, columns = 33, depth = 129;
  const auto a = Array<Number>::random({rows, depth}, 1), b = Array<Number>::random({columns, depth}, 2);
  const Array<Number> product({rows, columns}), packed({rows, columns});
  TensorView transposed = b.view();  // (depth, columns), without a copy
  std::swap(transposed.shape[0], transposed.shape[1]);
  std::swap(transposed.strides[0], transposed.strides[1]);
  matmul(a.view(), transposed, product.view());
  const attnlib::PackedWeight weight(
      b.view(), sizeof(Number) == 8 ? attnlib::WeightFormat::float64 : attnlib::WeightFormat::float32);
  linear(a.view(), weight, {}, packed.view());

  Comparison<Number> plain_error("matmul"), packed_error("linear, packed weight");
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t column = 0; column < columns; ++column) {
      double sum = 0.0, magnitudes = 0.0;
      for (std::int64_t k = 0; k < depth; ++k) {
        const double term = a[row * depth + k] * b[column * depth + k];
        sum += term;
        magnitudes += std::abs(term);
      }
      const double bound = std::sqrt(static_cast<double>(depth)) * magnitudes;
      plain_error.add(product[row * columns + column], sum, bound);
      packed_error.add(packed[row * columns + column], sum, bound);
    }
}

template <class Number>
void rows_of_softmax() {
  constexpr std::int64_t rows = 5, columns = 65;
  const auto x = Array<Number>::random({rows, columns}, 3);
  const Array<Number> out({rows, columns});
  softmax(x.view(), -1, nullptr, out.view());

  Comparison<Number> error("softmax");
  for (std::int64_t row = 0; row < rows; ++row) {
    double sum = 0.0;
    for (std::int64_t n = 0; n < columns; ++n) sum += std::exp(x[row * columns + n]);
    for (std::int64_t n = 0; n < columns; ++n) {
      const double expected = std::exp(x[row * columns + n]) / sum;
      error.add(out[row * columns + n], expected, 8 * expected);
    }
  }
}

// Grouped queries, causal: the last query sees the last key.
template <class Number>
void causal_attention() {
  constexpr std::int64_t heads = 4, groups = 2, queries = 9, keys = 17, size = 24, value_size = 8;
  const auto query = Array<Number>::random({heads, queries, size}, 4),
             key = Array<Number>::random({groups, keys, size}, 5),
             value = Array<Number>::random({groups, keys, value_size}, 6);
  const Array<Number> out({heads, queries, value_size});
  attnlib::AttentionOptions options;
  options.causal = true;
  attention(query.view(), key.view(), value.view(), options, {out.view()});

  Comparison<Number> error("attention");
  for (std::int64_t h = 0; h < heads; ++h)
    for (std::int64_t i = 0; i < queries; ++i) {
      const std::int64_t group = h / (heads / groups), visible = keys - queries + i + 1;
      std::vector<double> weights;
      double total = 0.0;
      for (std::int64_t j = 0; j < visible; ++j) {
        double score = 0.0;
        for (std::int64_t d = 0; d < size; ++d)
          score += query[(h * queries + i) * size + d] * key[(group * keys + j) * size + d];
        weights.push_back(std::exp(score / std::sqrt(static_cast<double>(size))));
        total += weights.back();
      }
      for (std::int64_t d = 0; d < value_size; ++d) {
        double sum = 0.0, magnitudes = 0.0;
        for (std::int64_t j = 0; j < visible; ++j) {
          const double term = weights[static_cast<std::size_t>(j)] / total * value[(group * keys + j) * value_size + d];
          sum += term;
          magnitudes += std::abs(term);
        }
        // Errors of a score, which exp makes relative, come twice, once through the total; then of the sum and of exp.
        const double bound = size / 2 + std::sqrt(static_cast<double>(keys)) + 8;
        error.add(out[(h * queries + i) * value_size + d], sum, bound * magnitudes);
      }
    }
}

bool errors_are_exceptions() {
  try {
    attnlib::matmul_shape({2, 3}, {4, 5});
  } catch (const std::invalid_argument& error) {
    std::printf("%s\n", error.what());
    return true;
  }
  return false;
}

}  // namespace

int main() {
  attnlib::set_num_threads(2);
  for (const std::string& name : attnlib::available_isas()) {
    attnlib::select_isa(name);
    std::printf("%s, %d threads\n", attnlib::isa().c_str(), attnlib::get_num_threads());
    products<float>();
    products<double>();
    rows_of_softmax<float>();
    rows_of_softmax<double>();
    causal_attention<float>();
    causal_attention<double>();
  }
  return all_near && errors_are_exceptions() ? 0 : 1;
}
