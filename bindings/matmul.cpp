#include "attnlib/matmul.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "ndarray.hpp"
#include "packed_weights.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

const char* format_name(WeightFormat format) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16", "int8", "int4"};
  return names[static_cast<int>(format)];
}

py::dtype stored_dtype(const PackedWeight& weight) {
  if (weight.format() == WeightFormat::int8) return py::dtype("int8");
  if (weight.format() == WeightFormat::int4) return py::dtype::from_args(py::module_::import("ml_dtypes").attr("int4"));
  return numpy_dtype(weight.dtype());
}

// The format called `object`, or the weight's own dtype for None.
WeightFormat format_from(const py::object& object, DType own) {
  if (object.is_none()) return static_cast<WeightFormat>(own);
  // A dtype, or its name; NumPy knows "int4" only once ml_dtypes has told it.
  std::string name;
  if (py::isinstance<py::str>(object)) {
    name = object.cast<std::string>();
  } else {
    try {
      name = py::str(py::dtype::from_args(object).attr("name"));
    } catch (const py::error_already_set&) {  // no dtype at all: dtype_from says so
    }
  }
  for (const WeightFormat format : {WeightFormat::int8, WeightFormat::int4})
    if (name == format_name(format)) return format;
  constexpr const char* names = "float32, float64, float16, bfloat16, int8 or int4";
  return static_cast<WeightFormat>(dtype_from(object, "pack_weight", names));
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
  begin_call("matmul");
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
  begin_call("linear");
  LinearOptions options;
  options.activation = activation_from("linear", activation);
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
  residual.broadcast_to(shape, "linear");
  DType dtype = promote({&x, &weight, &bias, &residual});
  // The scales of quantised weights are not data of the caller's: they do not widen the result.
  if (packed && !packed->is_quantized()) dtype = promote_types(dtype, packed->dtype());
  if (packed && dtype == DType::float64 && packed->format() != WeightFormat::float64) {
    // Panels are computed in float32 or, if they hold float64, in float64; this rare mix is unpacked for the call.
    weight = FloatArray(unpack(*packed), "linear", "weight");
    dispatch_record().add_note("weight", "unpacked: its format is not computed in float64");
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

py::object bound_linear_in_parts(const py::object& x_object, const std::vector<std::shared_ptr<PackedWeight>>& weights,
                                 const py::object& out_object) {
  constexpr const char* operation = "linear_in_parts";
  begin_call(operation);
  FloatArray x = required_array(x_object, operation, "x");
  if (weights.empty()) throw std::invalid_argument("linear_in_parts: weights must be at least one, got none");
  std::vector<const PackedWeight*> parts;
  std::int64_t columns = 0;
  for (const auto& weight : weights) {
    if (weight == nullptr) throw py::type_error("linear_in_parts: weights must be PackedWeights, got None");
    parts.push_back(weight.get());
    linear_shape(x.view().shape, {weight->out_features(), weight->in_features()}, operation);
    columns += weight->out_features();
  }
  const DType dtype = promote_with(parts, x.dtype(), operation);
  Output out(out_object, operation, linear_shape(x.view().shape, {columns, parts[0]->in_features()}), dtype, {&x});
  x.convert(dtype);
  without_gil([&] { linear_in_parts(x.view(), parts, out.view()); });
  return out.finish();
}

std::shared_ptr<PackedWeight> bound_pack_weight(const py::object& weight_object, const py::object& dtype_object,
                                                const py::object& group_size_object) {
  begin_call("pack_weight");
  FloatArray weight = required_array(weight_object, "pack_weight", "weight");
  const WeightFormat format = format_from(dtype_object, weight.dtype());
  if (format != WeightFormat::int8 && format != WeightFormat::int4) weight.cast(static_cast<DType>(format));
  std::int64_t group_size = PackedWeight::default_group_size;
  if (const auto given = integers_from(group_size_object, "pack_weight", "group_size")) {
    if (format != WeightFormat::int4)
      throw std::invalid_argument("pack_weight: group_size goes with dtype 'int4' alone");
    if (given->values.size() != 1)
      throw std::invalid_argument("pack_weight: group_size must be one integer, got shape " + given->shape.to_string());
    group_size = given->values[0];
  }
  std::shared_ptr<PackedWeight> packed;
  without_gil([&] { packed = std::make_shared<PackedWeight>(weight.view(), format, group_size); });
  return packed;
}

// Rows of the weight as a weight of their own, with the numbers that they have here.
std::shared_ptr<PackedWeight> rows(const std::shared_ptr<PackedWeight>& self, std::int64_t start, std::int64_t stop) {
  if (start < 0 || stop < start || stop > self->out_features())
    throw std::invalid_argument("PackedWeight.rows: 0 <= start <= stop <= " + std::to_string(self->out_features()) +
                                " must hold, got " + std::to_string(start) + " and " + std::to_string(stop));
  if (self->is_quantized()) return std::make_shared<PackedWeight>(self->quantized().rows(start, stop));
  const py::array whole = unpack(*self);
  FloatArray part(whole[py::slice(start, stop, 1)], "PackedWeight.rows", "weight");
  return std::make_shared<PackedWeight>(part.view(), self->format());
}

template <class Element>
py::array_t<Element> copied(const std::unique_ptr<Element[]>& values, std::initializer_list<py::ssize_t> shape) {
  return py::array_t<Element>(shape, values.get());
}

// What is pickled does not depend on the rung: (weight,), or of a quantised weight its codes and scales.
py::tuple state_of(const PackedWeight& self) {
  if (!self.is_quantized()) return py::make_tuple(unpack(self));
  const PackedWeight::Quantized q = self.quantized();
  const py::ssize_t groups = q.groups();
  const py::object rest = q.minima ? copied(q.minima, {q.out_features, groups}) : copied(q.balance, {1, q.in_features});
  return py::make_tuple(format_name(q.format), q.group_size, copied(q.codes, {q.out_features, q.in_features}),
                        copied(q.scales, {q.out_features, groups}), rest);
}

template <class Element>
std::unique_ptr<Element[]> taken(const py::handle& object, py::ssize_t rows, py::ssize_t columns) {
  const auto array = py::array_t<Element, py::array::c_style>::ensure(object);
  if (!array || array.ndim() != 2 || array.shape(0) != rows || array.shape(1) != columns)
    throw std::invalid_argument("PackedWeight: the pickled state is damaged");
  auto values = std::make_unique<Element[]>(static_cast<std::size_t>(std::max<py::ssize_t>(array.size(), 1)));
  std::copy_n(array.data(), array.size(), values.get());
  return values;
}

std::shared_ptr<PackedWeight> from_state(const py::tuple& state) {
  if (state.size() == 1) return bound_pack_weight(state[0], py::none(), py::none());
  if (state.size() != 5) throw std::invalid_argument("PackedWeight: the pickled state is damaged");
  PackedWeight::Quantized q{};
  q.format = format_from(state[0], DType::float32);
  try {
    q.group_size = state[1].cast<std::int64_t>();
  } catch (const py::cast_error&) {
    throw std::invalid_argument("PackedWeight: the pickled state is damaged");
  }
  const py::array codes = py::array::ensure(state[2]);
  const bool int4 = q.format == WeightFormat::int4;
  if (!codes || codes.ndim() != 2 || (!int4 && q.format != WeightFormat::int8) ||
      (q.group_size != 32 && q.group_size != 64 && q.group_size != 128))
    throw std::invalid_argument("PackedWeight: the pickled state is damaged");
  q.out_features = codes.shape(0);
  q.in_features = codes.shape(1);
  check_quantized_shape({q.out_features, q.in_features}, q.format);
  q.codes = taken<std::uint8_t>(codes, q.out_features, q.in_features);
  if (int4 && std::any_of(q.codes.get(), q.codes.get() + codes.size(), [](std::uint8_t code) { return code > 15; }))
    throw std::invalid_argument("PackedWeight: the pickled state is damaged");
  q.scales = taken<float>(state[3], q.out_features, q.groups());
  if (int4)
    q.minima = taken<float>(state[4], q.out_features, q.groups());
  else
    q.balance = taken<float>(state[4], 1, q.in_features);
  return std::make_shared<PackedWeight>(q);
}

using HeldWeight = std::shared_ptr<PackedWeight>;

void check_self(const HeldWeight& self) {
  if (self == nullptr) throw py::type_error("PackedWeight: self must be a PackedWeight, got None");
}

// The format's name, sizes, and the panels where they are.
py::tuple stored(const HeldWeight& self) {
  check_self(self);
  const PackedWeight::Layout layout = self->layout();
  py::array_t<std::uint8_t> panels({self->nbytes()}, {py::ssize_t{1}},
                                   reinterpret_cast<const std::uint8_t*>(self->panels()), py::cast(self));
  panels.attr("setflags")(py::arg("write") = false);
  return py::make_tuple(format_name(layout.format), layout.out_features, layout.in_features, layout.group_size,
                        layout.panel_width, panels);
}

std::shared_ptr<PackedWeight> from_stored(const std::string& format, std::int64_t out_features,
                                          std::int64_t in_features, std::int64_t group_size, std::int64_t panel_width,
                                          bool copy, const py::array_t<std::uint8_t, py::array::c_style>& panels) {
  const PackedWeight::Layout layout{format_from(py::str(format), DType::float32), out_features, in_features, group_size,
                                    panel_width};
  if (panels.ndim() != 1) throw std::invalid_argument("PackedWeight: panels must be a row of bytes");
  // Who holds the weight last may hold no GIL. The memory, which may be read-only, is never written to.
  auto* bytes = const_cast<std::byte*>(reinterpret_cast<const std::byte*>(panels.data()));
  std::shared_ptr<std::byte> memory(bytes, [keeper = new py::object(panels)](std::byte*) {
    const py::gil_scoped_acquire gil;
    delete keeper;
  });
  const std::int64_t size = panels.size();
  std::shared_ptr<PackedWeight> weight;
  without_gil(
      [&] { weight = std::make_shared<PackedWeight>(PackedWeight::stored(layout, std::move(memory), size, copy)); });
  return weight;
}

}  // namespace

// A method of the class, taking its holder: by reference pybind11 would give it the bare memory of an object that was
// made without __init__, and does ask for a holder.
template <class Function>
auto method(Function function) {
  return [function](const HeldWeight& self) {
    check_self(self);
    return function(*self);
  };
}

void register_matmul(py::module_& module) {
  py::class_<PackedWeight, HeldWeight>(
      module, "PackedWeight",
      "A weight of shape (out_features, in_features) laid out for the kernels in use; made by pack_weight.")
      .def_property_readonly("shape", method([](const PackedWeight& self) {
                               return py::make_tuple(self.out_features(), self.in_features());
                             }),
                             "(out_features, in_features)")
      .def_property_readonly("dtype", method(&stored_dtype), "The dtype that the weight is stored in.")
      .def_property_readonly("nbytes", method([](const PackedWeight& self) { return self.nbytes(); }),
                             "Bytes of memory that the panels take.")
      .def("unpack", method(&unpack),
           "The weight as a new C-contiguous array: of its dtype, or of float32 if it is quantised.")
      .def("rows", &rows, py::arg("start").noconvert(), py::arg("stop").noconvert(),
           "Rows start..stop - 1 as a weight of their own: the same stored numbers, so the same results.")
      .def("__repr__", method([](const PackedWeight& self) {
             return "PackedWeight(shape=(" + std::to_string(self.out_features()) + ", " +
                    std::to_string(self.in_features()) + "), dtype=" + format_name(self.format()) + ")";
           }))
      .def("_stored", &stored)
      .def_static("_from_stored", &from_stored, py::arg("format"), py::arg("out_features"), py::arg("in_features"),
                  py::arg("group_size"), py::arg("panel_width"), py::arg("copy"), py::arg("panels"))
      .def(py::pickle(method(&state_of), &from_state));
  module.def("matmul", &bound_matmul, py::arg("a"), py::arg("b"), py::arg("out") = py::none());
  module.def("linear", &bound_linear, py::arg("x"), py::arg("weight"), py::arg("bias") = py::none(),
             py::arg("activation") = py::none(), py::arg("residual") = py::none(), py::arg("out") = py::none());
  module.def("linear_in_parts", &bound_linear_in_parts, py::arg("x"), py::arg("weights"), py::arg("out") = py::none());
  module.def("pack_weight", &bound_pack_weight, py::arg("weight"), py::arg("dtype") = py::none(),
             py::arg("group_size") = py::none());
}

}  // namespace attnlib::bindings
