#include "attnlib/softmax.hpp"

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

// Neither converts: the operation gathers rows that are not contiguous by itself.

py::object run_softmax(const py::object& x_object, int axis, const py::object& mask_object, const py::object& out) {
  begin_call("softmax");
  const FloatArray x = required_array(x_object, "softmax", "x");
  const BoolArray mask(mask_object, "softmax", "mask");
  check_softmax("softmax", x.view(), axis, mask.optional());
  Output output(out, "softmax", x.view().shape, x.dtype(), {&x}, true, &mask);
  without_gil([&] { softmax(x.view(), axis, mask.optional(), output.view()); });
  return output.finish();
}

py::object run_log_softmax(const py::object& x_object, int axis, const py::object& out) {
  begin_call("log_softmax");
  const FloatArray x = required_array(x_object, "log_softmax", "x");
  check_softmax("log_softmax", x.view(), axis, nullptr);
  Output output(out, "log_softmax", x.view().shape, x.dtype(), {&x}, true);
  without_gil([&] { log_softmax(x.view(), axis, output.view()); });
  return output.finish();
}

}  // namespace

void register_softmax(py::module_& module) {
  module.def("softmax", &run_softmax, py::arg("x"), py::arg("axis").noconvert() = -1, py::arg("mask") = py::none(),
             py::arg("out") = py::none());
  module.def("log_softmax", &run_log_softmax, py::arg("x"), py::arg("axis").noconvert() = -1,
             py::arg("out") = py::none());
}

}  // namespace attnlib::bindings
