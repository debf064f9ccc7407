#include "attnlib/matmul.hpp"

#include <pybind11/pybind11.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

Activation activation_from(const py::object& object) {
  if (object.is_none()) return Activation::none;
  const std::string name = py::isinstance<py::str>(object) ? object.cast<std::string>() : std::string();
  if (name == "relu") return Activation::relu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  if (name == "silu") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  throw std::invalid_argument("linear: activation must be None, 'relu', 'gelu', 'gelu_tanh', 'silu' or 'tanh', got " +
                              py::repr(object).cast<std::string>());
}

py::array unpack(const PackedWeight& weight) {
  py::array array(numpy_dtype(weight.dtype()), {weight.out_features(), weight.in_features()});
  TensorView view;
  view.data = array.mutable_data();
  view.dtype = weight.dtype();
  view.shape = {weight.out_features(), weight.in_features()};
  view.strides = {weight.in_features(), 1};
  weight.unpack(view);
  return array;
}

py::object bound_matmul(const py::object& a_object, const py::object& b_object, const py::object& out_object) {
  FloatArray a = required_array(a_object, "matmul", "a");
  FloatArray b = required_array(b_object, "matmul", "b");
  const Shape shape = matmul_shape(a.view().shape, b.view().shape);
  const DType dtype = promote({&a, &b});
  Output out(out_object, "matmul", shape, dtype, {&a, &b});
  a.convert(dtype);
  b.cast(dtype);
  without_gil([&] { matmul(a.view(), b.view(), out.view()); });
  return out.finish();
}

py::object bound_linear(const py::object& x_object, const py::object& weight_object, const py::object& bias_object,
                        const py::object& activation, const py::object& residual_object, const py::object& out_object) {
  LinearOptions options;
  options.activation = activation_from(activation);
  FloatArray x = required_array(x_object, "linear", "x");
  FloatArray bias(bias_object, "linear", "bias");
  FloatArray residual(residual_object, "linear", "residual");
  std::shared_ptr<const PackedWeight> packed;
  FloatArray weight(py::none(), "linear", "weight");
  Shape weight_shape;
  if (py::isinstance<PackedWeight>(weight_object)) {
    packed = weight_object.cast<std::shared_ptr<const PackedWeight>>();
    weight_shape = {packed->out_features(), packed->in_features()};
  } else {
    weight = required_array(weight_object, "linear", "weight");
    weight_shape = weight.view().shape;
  }
  const Shape shape = linear_shape(x.view().shape, weight_shape);
  DType dtype = promote({&x, &weight, &bias, &residual});
  if (packed) dtype = promote_types(dtype, packed->dtype());
  if (packed && dtype == DType::float64 && packed->dtype() != DType::float64) {
    // Panels are computed in float32 or, if they hold float64, in float64; this rare mix is unpacked for the call.
    weight = FloatArray(unpack(*packed), "linear", "weight");
    packed.reset();
  }
  Output out(out_object, "linear", shape, dtype, {&x, &weight, &bias, &residual});
  x.convert(dtype);
  weight.cast(dtype);
  bias.convert(dtype);
  residual.convert(dtype);
  options.bias = bias.optional();
  options.residual = residual.optional();
  without_gil([&] {
    if (packed)
      linear(x.view(), *packed, options, out.view());
    else
      linear(x.view(), weight.view(), options, out.view());
  });
  return out.finish();
}

std::shared_ptr<PackedWeight> bound_pack_weight(const py::object& weight_object, const py::object& dtype_object) {
  FloatArray weight = required_array(weight_object, "pack_weight", "weight");
  if (!dtype_object.is_none()) weight.cast(dtype_from(dtype_object, "pack_weight"));
  std::shared_ptr<PackedWeight> packed;
  without_gil([&] { packed = std::make_shared<PackedWeight>(weight.view()); });
  return packed;
}

}  // namespace

void register_matmul(py::module_& module) {
  py::class_<PackedWeight, std::shared_ptr<PackedWeight>>(
      module, "PackedWeight",
      "A weight of shape (out_features, in_features) laid out for the kernels in use; made by pack_weight.")
      .def_property_readonly(
          "shape", [](const PackedWeight& self) { return py::make_tuple(self.out_features(), self.in_features()); },
          "(out_features, in_features)")
      .def_property_readonly(
          "dtype", [](const PackedWeight& self) { return numpy_dtype(self.dtype()); },
          "The dtype that the weight is stored in.")
      .def_property_readonly("nbytes", &PackedWeight::nbytes, "Bytes of memory that the panels take.")
      .def("unpack", &unpack, "The weight as a new C-contiguous array of its dtype.")
      .def("__repr__",
           [](const PackedWeight& self) {
             return "PackedWeight(shape=(" + std::to_string(self.out_features()) + ", " +
                    std::to_string(self.in_features()) + "), dtype=" + dtype_name(self.dtype()) + ")";
           })
      // The panels depend on the rung, so what is pickled is the plain weight.
      .def(py::pickle([](const PackedWeight& self) { return py::make_tuple(unpack(self)); },
                      [](const py::tuple& state) { return bound_pack_weight(state[0], py::none()); }));
  module.def("matmul", &bound_matmul, py::arg("a"), py::arg("b"), py::arg("out") = py::none());
  module.def("linear", &bound_linear, py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(),
             py::arg("activation") = py::none(), py::arg("residual") = py::none(), py::arg("out") = py::none());
  module.def("pack_weight", &bound_pack_weight, py::arg("weight"), py::arg("dtype") = py::none());
}

}  // namespace attnlib::bindings
