// What operations with several packed weights have in common.
#pragma once

#include <span>
#include <string>

#include "attnlib/matmul.hpp"
#include "ndarray.hpp"

namespace attnlib::bindings {

// The dtype that arrays of `dtype` and weights promote to: quantised weights go with any but float64. TypeError where
// float64 meets a weight of another kind, which only a copy of the weight could be multiplied with.
inline DType promote_with(std::span<const PackedWeight* const> weights, DType dtype, const char* operation) {
  for (const PackedWeight* weight : weights)
    if (!weight->is_quantized()) dtype = promote_types(dtype, weight->dtype());
  for (const PackedWeight* weight : weights)
    if ((weight->format() == WeightFormat::float64) != (dtype == DType::float64))
      throw py::type_error(std::string(operation) + ": float64 arrays and float64 weights go with each other alone");
  return dtype;
}

}  // namespace attnlib::bindings
