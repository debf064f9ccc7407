#include "attnlib/lstm_steps.hpp"

#include <memory>
#include <stdexcept>
#include <string>

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

py::tuple run_lstm_steps(const py::object& projected_object, const std::shared_ptr<PackedWeight>& weight,
                         const py::object& hidden_object, const py::object& cell_object,
                         const std::shared_ptr<PackedWeight>& output_weight, bool backwards,
                         const py::object& out_object) {
  begin_call("lstm_steps");
  FloatArray projected = required_array(projected_object, "lstm_steps", "projected");
  FloatArray hidden = required_array(hidden_object, "lstm_steps", "hidden");
  FloatArray cell = required_array(cell_object, "lstm_steps", "cell");
  const DType dtype = promote({&projected, &hidden, &cell});
  // The state is carried over many steps: half precision would add its rounding to it at each.
  if (dtype != DType::float32 && dtype != DType::float64)
    throw py::type_error(std::string("lstm_steps: the arrays must be float32 or float64, got ") + dtype_name(dtype));
  for (const PackedWeight* packed : {weight.get(), output_weight.get()})
    if (packed != nullptr && (packed->format() == WeightFormat::float64) != (dtype == DType::float64))
      throw py::type_error("lstm_steps: float64 arrays and float64 weights go with each other alone");
  const LstmWeights weights{.recurrent = weight.get(), .output = output_weight.get()};
  check_lstm_steps(projected.view(), weights, hidden.view(), cell.view());
  Shape shape = projected.view().shape;
  shape[2] = hidden.view().shape[1];
  Output out(out_object, "lstm_steps", shape, dtype, {&projected, &hidden, &cell});
  // The cell is overwritten at every step, so it is one of our own.
  const py::array state = cell.copied(dtype);
  const FloatArray state_view = required_array(state, "lstm_steps", "cell");
  projected.convert(dtype);
  hidden.convert(dtype);
  without_gil([&] { lstm_steps(projected.view(), weights, hidden.view(), backwards, state_view.view(), out.view()); });
  return py::make_tuple(out.finish(), state);
}

}  // namespace

void register_lstm_steps(py::module_& module) {
  module.def("lstm_steps", &run_lstm_steps, py::arg("projected"), py::arg("weight").none(false), py::arg("hidden"),
             py::arg("cell"), py::arg("output_weight") = py::none(), py::arg("backwards") = false,
             py::arg("out") = py::none());
}

}  // namespace attnlib::bindings
