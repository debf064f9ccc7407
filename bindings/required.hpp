// Array arguments that have no default.
#pragma once

#include <string>

#include "ndarray.hpp"

namespace attnlib::bindings {

// TypeError for None, and for what FloatArray refuses.
inline FloatArray required_array(const py::object& object, const char* operation, const char* argument) {
  if (object.is_none()) throw py::type_error(std::string(operation) + ": " + argument + " must be an array, got None");
  return FloatArray(object, operation, argument);
}

}  // namespace attnlib::bindings
