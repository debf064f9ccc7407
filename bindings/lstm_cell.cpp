#include "attnlib/lstm_cell.hpp"

#include <stdexcept>
#include <string>

#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

// A state is carried over many steps: half precision would add its rounding to it at each.
void require_wide(const FloatArray& array) {
  if (array.dtype() != DType::float32 && array.dtype() != DType::float64)
    throw py::type_error(std::string("lstm_cell: ") + array.argument() + " must be float32 or float64, got " +
                         dtype_name(array.dtype()));
}

py::tuple run_lstm_cell(const py::object& gates_object, const py::object& projected_object,
                        const py::object& cell_object, const py::object& out_object,
                        const py::object& cell_out_object) {
  begin_call("lstm_cell");
  FloatArray gates = required_array(gates_object, "lstm_cell", "gates");
  FloatArray projected = required_array(projected_object, "lstm_cell", "projected");
  FloatArray cell = required_array(cell_object, "lstm_cell", "cell");
  for (const FloatArray* array : {&gates, &projected, &cell}) require_wide(*array);
  const DType dtype = promote({&gates, &projected, &cell});
  check_lstm_cell(gates.view(), projected.view(), cell.view());
  const FloatArray target(cell_out_object, "lstm_cell", "cell_out");
  Output out(out_object, "lstm_cell", cell.view().shape, dtype, {&gates, &projected, &cell, &target});
  Output cell_out(cell_out_object, "lstm_cell", cell.view().shape, dtype, {&gates, &projected, &cell}, true);
  gates.convert(dtype);
  projected.convert(dtype);
  cell.convert(dtype);
  without_gil([&] { lstm_cell(gates.view(), projected.view(), cell.view(), out.view(), cell_out.view()); });
  py::object state = cell_out.finish();
  return py::make_tuple(out.finish(), state);
}

}  // namespace

void register_lstm_cell(py::module_& module) {
  module.def("lstm_cell", &run_lstm_cell, py::arg("gates"), py::arg("projected"), py::arg("cell"),
             py::arg("out") = py::none(), py::arg("cell_out") = py::none());
}

}  // namespace attnlib::bindings
