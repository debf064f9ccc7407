#include "attnlib/rotary.hpp"

#include <optional>

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

py::object run_rotary_embedding(const py::object& x_object, const py::object& cos_object, const py::object& sin_object,
                                const py::object& positions_object, bool interleaved, const py::object& out) {
  begin_call("rotary_embedding");
  FloatArray x = required_array(x_object, "rotary_embedding", "x");
  FloatArray cos = required_array(cos_object, "rotary_embedding", "cos");
  FloatArray sin = required_array(sin_object, "rotary_embedding", "sin");
  const std::optional<Integers> integers = integers_from(positions_object, "rotary_embedding", "positions");
  std::optional<StridedView<const std::int64_t>> positions;
  if (integers) positions = {.data = integers->values.data(), .shape = integers->shape, .strides = {}};
  const DType dtype = promote({&x, &cos, &sin});
  check_rotary_embedding(x.view(), cos.view(), sin.view(), positions ? &*positions : nullptr);
  Output output(out, "rotary_embedding", x.view().shape, dtype, {&x, &cos, &sin}, true);
  for (FloatArray* array : {&x, &cos, &sin}) array->convert(dtype);
  without_gil([&] {
    rotary_embedding(x.view(), cos.view(), sin.view(), positions ? &*positions : nullptr, interleaved, output.view());
  });
  return output.finish();
}

}  // namespace

void register_rotary(py::module_& module) {
  module.def("rotary_embedding", &run_rotary_embedding, py::arg("x"), py::arg("cos"), py::arg("sin"),
             py::arg("positions") = py::none(), py::arg("interleaved") = false, py::arg("out") = py::none());
}

}  // namespace attnlib::bindings
