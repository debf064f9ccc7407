// Kernels of each family against sums in double precision, on every rung that this CPU has.
//
// Sizes lie around the widths of registers and tiles. The tolerances are first-order bounds of the rounding errors, in
// units of eps = 2^-23 times the sum of the magnitudes that enter an element.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "attnlib/activation.hpp"
#include "attnlib/attention.hpp"
#include "attnlib/matmul.hpp"
#include "attnlib/normalization.hpp"
#include "attnlib/rotary.hpp"
#include "attnlib/softmax.hpp"
#include "isa/dispatch.hpp"

namespace {

using attnlib::Shape;
using attnlib::TensorView;
using Floats = std::vector<float>;

constexpr double eps = 0x1p-23;
int failures = 0;
long checks = 0;

void expect_near(const char* what, double found, double expected, double bound) {
  ++checks;
  if (std::abs(found - expected) <= bound) return;  // false for NaN
  if (++failures <= 20) std::printf("  %s: found %.9g, expected %.9g, allowed %.3g\n", what, found, expected, bound);
}

// Numbers in [-1, 1) that do not depend on the C++ library.
Floats random_floats(std::int64_t count, std::uint32_t seed) {
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(static_cast<std::int32_t>(seed) >> 8) * 0x1p-23f;
  }
  return values;
}

TensorView view(Floats& values, const Shape& shape) {
  return attnlib::contiguous_view(values.data(), shape, attnlib::DType::float32);
}

double at(const Floats& values, std::int64_t index) { return values[static_cast<std::size_t>(index)]; }

void test_softmax(std::int64_t n) {
  Floats x = random_floats(3 * n, 1), out(x.size());
  attnlib::softmax(view(x, {3, n}), -1, nullptr, view(out, {3, n}));
  for (std::int64_t row = 0; row < 3; ++row) {
    double sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(at(x, row * n + i));
    for (std::int64_t i = 0; i < n; ++i) {
      const double expected = std::exp(at(x, row * n + i)) / sum;
      expect_near("softmax", at(out, row * n + i), expected, 8 * eps * expected);
    }
  }
}

void test_layer_norm(std::int64_t n) {
  Floats x = random_floats(2 * n, 2), out(x.size());
  attnlib::layer_norm(view(x, {2, n}), nullptr, nullptr, 1e-3, nullptr, view(out, {2, n}));
  for (std::int64_t row = 0; row < 2; ++row) {
    double mean = 0, variance = 0;
    for (std::int64_t i = 0; i < n; ++i) mean += at(x, row * n + i) / static_cast<double>(n);
    for (std::int64_t i = 0; i < n; ++i) variance += std::pow(at(x, row * n + i) - mean, 2) / static_cast<double>(n);
    const double scale = 1 / std::sqrt(variance + 1e-3);
    for (std::int64_t i = 0; i < n; ++i)
      expect_near("layer_norm", at(out, row * n + i), (at(x, row * n + i) - mean) * scale, 8 * eps * (1 + scale));
  }
}

void test_gelu(std::int64_t n) {
  Floats x = random_floats(n, 3), out(x.size());
  attnlib::activate(attnlib::Activation::gelu, view(x, {n}), view(out, {n}));
  for (std::int64_t i = 0; i < n; ++i)
    expect_near("gelu", at(out, i), at(x, i) * 0.5 * std::erfc(-at(x, i) / std::sqrt(2.0)),
                4 * eps * std::abs(at(x, i)));
}

// Every float16 there is, widened and narrowed again on the way: as it was, or 0 if negative, or still NaN.
void test_float16() {
  constexpr int count = 1 << 16;
  std::vector<std::uint16_t> bits(count), out(count);
  for (int i = 0; i < count; ++i) bits[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(i);
  const auto float16_view = [](std::vector<std::uint16_t>& values) {
    return attnlib::contiguous_view(values.data(), {count}, attnlib::DType::float16);
  };
  attnlib::activate(attnlib::Activation::relu, float16_view(bits), float16_view(out));
  for (int i = 0; i < count; ++i) {
    const int found = out[static_cast<std::size_t>(i)], magnitude = i & 0x7fff;
    const bool is_nan = magnitude > 0x7c00;
    expect_near("float16", is_nan ? (found & 0x7fff) > 0x7c00 : found, is_nan ? 1 : i == magnitude ? i : 0, 0);
  }
}

void test_rotary(std::int64_t half) {
  const std::int64_t d = 2 * half;
  Floats x = random_floats(5 * d, 4), cos = random_floats(5 * half, 5), sin = random_floats(5 * half, 6), out(x.size());
  attnlib::rotary_embedding(view(x, {1, 1, 5, d}), view(cos, {5, half}), view(sin, {5, half}), nullptr, false,
                            view(out, {1, 1, 5, d}));
  for (std::int64_t s = 0; s < 5; ++s)
    for (std::int64_t i = 0; i < half; ++i) {
      const double a = at(x, s * d + i), b = at(x, s * d + half + i), c = at(cos, s * half + i),
                   t = at(sin, s * half + i);
      expect_near("rotary", at(out, s * d + i), a * c - b * t, 4 * eps);
      expect_near("rotary", at(out, s * d + half + i), b * c + a * t, 4 * eps);
    }
}

// Products with a plain weight, and with one of 8-bit codes: the same bits on every rung, so a hash is compared.
std::uint64_t test_products(std::int64_t m, std::int64_t n, std::int64_t k) {
  Floats x = random_floats(m * k, 7), weight = random_floats(n * k, 8), out(static_cast<std::size_t>(m * n));
  attnlib::linear(view(x, {m, k}), view(weight, {n, k}), {}, view(out, {m, n}));
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (std::int64_t p = 0; p < k; ++p) {
        sum += at(x, i * k + p) * at(weight, j * k + p);
        size += std::abs(at(x, i * k + p) * at(weight, j * k + p));
      }
      expect_near("linear", at(out, i * n + j), sum, eps * (2 + std::sqrt(static_cast<double>(k))) * size);
    }
  const attnlib::PackedWeight packed(view(weight, {n, k}), attnlib::WeightFormat::int8);
  attnlib::linear(view(x, {m, k}), packed, {}, view(out, {m, n}));
  std::uint64_t hash = 14695981039346656037u;
  for (std::size_t i = 0; i < out.size() * sizeof(float); ++i)
    hash = (hash ^ reinterpret_cast<const unsigned char*>(out.data())[i]) * 1099511628211u;
  return hash;
}

void test_attention(std::int64_t queries, std::int64_t keys, std::int64_t d) {
  Floats q = random_floats(queries * d, 9), k = random_floats(keys * d, 10), v = random_floats(keys * d, 11);
  Floats out(q.size());
  attnlib::AttentionResults results;
  results.out = view(out, {1, queries, d});
  attnlib::attention(view(q, {1, queries, d}), view(k, {1, keys, d}), view(v, {1, keys, d}), {}, results);
  std::vector<double> weights(static_cast<std::size_t>(keys));
  for (std::int64_t i = 0; i < queries; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      double score = 0;
      for (std::int64_t c = 0; c < d; ++c) score += at(q, i * d + c) * at(k, j * d + c);
      sum += weights[static_cast<std::size_t>(j)] = std::exp(score / std::sqrt(static_cast<double>(d)));
    }
    for (std::int64_t c = 0; c < d; ++c) {
      double expected = 0;
      for (std::int64_t j = 0; j < keys; ++j) expected += weights[static_cast<std::size_t>(j)] / sum * at(v, j * d + c);
      // A score errs by eps sqrt(d) |q||k| / sqrt(d) <= eps d / 3; a weighted mean of values below 1 by no more.
      expect_near("attention", at(out, i * d + c), expected, eps * (16 + static_cast<double>(d)));
    }
  }
}

}  // namespace

int main() {
  std::uint64_t first_hash = 0;
  for (const std::string& rung : attnlib::available_isas()) {
    attnlib::select_isa(rung);
    for (const std::int64_t n : {1, 7, 15, 16, 17, 33, 300}) {
      test_softmax(n);
      test_layer_norm(n);
      test_gelu(n);
      test_rotary(n);
      test_attention(1, n, 17);
      test_attention(33, n, 64);
    }
    test_float16();
    std::uint64_t hash = 0;
    for (const std::int64_t m : {1, 7, 33}) hash = hash * 31 + test_products(m, 35, 97);
    if (first_hash == 0) first_hash = hash;
    if (hash != first_hash) ++failures;
    std::printf("%s: %ld comparisons so far, %d failures; int8 %016llx\n", rung.c_str(), checks, failures,
                static_cast<unsigned long long>(hash));
  }
  return failures == 0 && checks > 0 ? 0 : 1;
}
