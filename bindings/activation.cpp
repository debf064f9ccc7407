#include "attnlib/activation.hpp"

#include <stdexcept>
#include <string>

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

py::object run_activation(Activation kind, const char* operation, const py::object& x_object, const py::object& out) {
  begin_call(operation);
  FloatArray x = required_array(x_object, operation, "x");
  const AxisOrder order = memory_order({x.view()});
  Output output(out, operation, x.view().shape, x.dtype(), {&x}, true, nullptr, order);
  if (order.empty()) x.convert(x.dtype());
  without_gil([&] { activate(kind, in_order(x.view(), order), in_order(output.view(), order)); });
  return output.finish();
}

template <Activation kind>
void define(py::module_& module) {
  module.def(
      activation_name(kind),
      [](const py::object& x, const py::object& out) { return run_activation(kind, activation_name(kind), x, out); },
      py::arg("x"), py::arg("out") = py::none());
}

py::object run_gelu(const py::object& x, const std::string& approximate, const py::object& out) {
  if (approximate == "none") return run_activation(Activation::gelu, "gelu", x, out);
  if (approximate == "tanh") return run_activation(Activation::gelu_tanh, "gelu", x, out);
  throw std::invalid_argument("gelu: approximate must be 'none' or 'tanh', got '" + approximate + "'");
}

py::object run_swiglu(const py::object& gate_object, const py::object& up_object, const py::object& out) {
  begin_call("swiglu");
  FloatArray gate = required_array(gate_object, "swiglu", "gate"), up = required_array(up_object, "swiglu", "up");
  const DType dtype = promote({&gate, &up});
  const AxisOrder order = gate.dtype() == up.dtype() ? memory_order({gate.view(), up.view()}) : AxisOrder();
  Output output(out, "swiglu", swiglu_shape(gate.view(), up.view()), dtype, {&gate, &up}, true, nullptr, order);
  if (order.empty()) {
    gate.convert(dtype);
    up.convert(dtype);
  }
  without_gil(
      [&] { swiglu(in_order(gate.view(), order), in_order(up.view(), order), in_order(output.view(), order)); });
  return output.finish();
}

}  // namespace

void register_activation(py::module_& module) {
  define<Activation::relu>(module);
  define<Activation::silu>(module);
  define<Activation::tanh>(module);
  define<Activation::sigmoid>(module);
  module.def("gelu", &run_gelu, py::arg("x"), py::arg("approximate") = "none", py::arg("out") = py::none());
  module.def("swiglu", &run_swiglu, py::arg("gate"), py::arg("up"), py::arg("out") = py::none());
}

}  // namespace attnlib::bindings
