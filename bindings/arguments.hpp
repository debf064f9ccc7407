// Arguments that are not arrays of numbers, and that several operations take.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "attnlib/dtype.hpp"
#include "ndarray.hpp"

namespace attnlib::bindings {

// One of the activations that products have built in, by name; None is none.
inline Activation activation_from(const char* operation, const py::object& object) {
  if (object.is_none()) return Activation::none;
  const std::string name = py::isinstance<py::str>(object) ? object.cast<std::string>() : std::string();
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  if (name == "silu") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  throw std::invalid_argument(std::string(operation) +
                              ": activation must be None, 'relu', 'gelu', 'gelu_tanh', 'silu' or 'tanh', got " +
                              py::repr(object).cast<std::string>());
}

// Where packed sequences begin and end.
inline Integers offsets_from(const char* operation, const py::object& object, const char* argument) {
  auto offsets = integers_from(object, operation, argument);
  if (!offsets)
    throw py::type_error(std::string(operation) + ": " + argument + " must be an array of offsets, got None");
  if (offsets->shape.rank() != 1)
    throw std::invalid_argument(std::string(operation) + ": " + argument +
                                " must be a 1-D array of N + 1 offsets, got shape " + offsets->shape.to_string());
  return std::move(*offsets);
}

}  // namespace attnlib::bindings
