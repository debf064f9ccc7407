#include "attnlib/normalization.hpp"

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

py::object run_layer_norm(const py::object& x_object, const py::object& weight_object, const py::object& bias_object,
                          double eps, const py::object& residual_object, const py::object& out) {
  begin_call("layer_norm");
  FloatArray x = required_array(x_object, "layer_norm", "x"), weight(weight_object, "layer_norm", "weight");
  FloatArray bias(bias_object, "layer_norm", "bias"), residual(residual_object, "layer_norm", "residual");
  const DType dtype = promote({&x, &weight, &bias, &residual});
  check_normalization("layer_norm", x.view(), weight.optional(), bias.optional(), eps, residual.optional());
  Output output(out, "layer_norm", x.view().shape, dtype, {&x, &weight, &bias, &residual}, true);
  for (FloatArray* array : {&x, &weight, &bias, &residual}) array->convert(dtype);
  without_gil(
      [&] { layer_norm(x.view(), weight.optional(), bias.optional(), eps, residual.optional(), output.view()); });
  return output.finish();
}

py::object run_rms_norm(const py::object& x_object, const py::object& weight_object, double eps,
                        const py::object& residual_object, const py::object& out) {
  begin_call("rms_norm");
  FloatArray x = required_array(x_object, "rms_norm", "x"), weight(weight_object, "rms_norm", "weight");
  FloatArray residual(residual_object, "rms_norm", "residual");
  const DType dtype = promote({&x, &weight, &residual});
  check_normalization("rms_norm", x.view(), weight.optional(), nullptr, eps, residual.optional());
  Output output(out, "rms_norm", x.view().shape, dtype, {&x, &weight, &residual}, true);
  for (FloatArray* array : {&x, &weight, &residual}) array->convert(dtype);
  without_gil([&] { rms_norm(x.view(), weight.optional(), eps, residual.optional(), output.view()); });
  return output.finish();
}

}  // namespace

void register_normalization(py::module_& module) {
  module.def("layer_norm", &run_layer_norm, py::arg("x"), py::arg("weight") = py::none(), py::arg("bias") = py::none(),
             py::arg("eps") = 1e-5, py::arg("residual") = py::none(), py::arg("out") = py::none());
  module.def("rms_norm", &run_rms_norm, py::arg("x"), py::arg("weight") = py::none(), py::arg("eps") = 1e-5,
             py::arg("residual") = py::none(), py::arg("out") = py::none());
}

}  // namespace attnlib::bindings
