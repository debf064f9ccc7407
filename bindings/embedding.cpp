#include "attnlib/embedding.hpp"

#include <optional>
#include <stdexcept>

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

py::object run_embedding(const py::object& x, const py::object& weight_object) {
  begin_call("embedding");
  const std::optional<Integers> rows = integers_from(x, "Embedding", "x");
  if (!rows) throw py::type_error("Embedding: x must be integers, got None");
  FloatArray weight = required_array(weight_object, "Embedding", "weight");
  if (weight.view().rank() != 2)
    throw std::invalid_argument("Embedding: weight must be (N, D), got shape " + weight.view().shape.to_string());
  Shape shape = rows->shape;
  shape.push_back(weight.view().shape.from_end(1));
  weight.convert(weight.dtype());
  Output output(py::none(), "Embedding", shape, weight.dtype(), {});
  without_gil([&] {
    embedding({.data = rows->values.data(), .shape = rows->shape, .strides = {}}, weight.view(), output.view());
  });
  return output.finish();
}

}  // namespace

void register_embedding(py::module_& module) {
  module.def("embedding", &run_embedding, py::arg("x"), py::arg("weight"));
}

}  // namespace attnlib::bindings
