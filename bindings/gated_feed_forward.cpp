#include "attnlib/gated_feed_forward.hpp"

#include <array>
#include <memory>

#include "ndarray.hpp"
#include "packed_weights.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

constexpr const char* operation = "gated_feed_forward";

py::object run_gated_feed_forward(const py::object& x_object, const py::object& norm_weight_object,
                                  const std::shared_ptr<PackedWeight>& gate_up,
                                  const std::shared_ptr<PackedWeight>& down, double eps, const py::object& out_object) {
  begin_call(operation);
  FloatArray x = required_array(x_object, operation, "x");
  FloatArray norm_weight(norm_weight_object, operation, "norm_weight");
  const DType dtype = promote_with(std::array{gate_up.get(), down.get()}, promote({&x, &norm_weight}), operation);
  const GatedFeedForward network{
      .norm_weight = norm_weight.optional(), .eps = eps, .gate_up = gate_up.get(), .down = down.get()};
  check_gated_feed_forward(x.view(), network);
  Output out(out_object, operation, x.view().shape, dtype, {&x, &norm_weight});
  x.convert(dtype);
  norm_weight.convert(dtype);
  without_gil([&] { gated_feed_forward(x.view(), network, out.view()); });
  return out.finish();
}

}  // namespace

void register_gated_feed_forward(py::module_& module) {
  module.def(operation, &run_gated_feed_forward, py::arg("x"), py::arg("norm_weight"), py::arg("gate_up").none(false),
             py::arg("down").none(false), py::arg("eps"), py::arg("out") = py::none());
}

}  // namespace attnlib::bindings
