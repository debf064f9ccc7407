#include "attnlib/ceiling.hpp"

#include <pybind11/stl.h>

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

CeilingDType ceiling_dtype(const std::string& name) {
  if (name == "float32") return CeilingDType::float32;
  if (name == "bfloat16") return CeilingDType::bfloat16;
  if (name == "int8") return CeilingDType::int8;
  throw std::invalid_argument("ceiling_multiply_add: dtype must be float32, bfloat16 or int8, got " + name);
}

double run_multiply_add(const std::string& dtype_name, std::int64_t steps) {
  const CeilingDType dtype = ceiling_dtype(dtype_name);
  double operations = 0;
  without_gil([&] { operations = ceiling_multiply_add(dtype, steps); });
  return operations;
}

double run_read(const py::object& data_object, std::int64_t times) {
  const FloatArray data = required_array(data_object, "ceiling_read", "data");
  double bytes = 0;
  without_gil([&] { bytes = ceiling_read(data.view(), times); });
  return bytes;
}

}  // namespace

void register_ceiling(py::module_& module) {
  module.def("ceiling_multiply_add", &run_multiply_add, py::arg("dtype"), py::arg("steps"));
  module.def("ceiling_read", &run_read, py::arg("data"), py::arg("times"));
}

}  // namespace attnlib::bindings
