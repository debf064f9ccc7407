#include "attnlib/encoder_layers.hpp"

#include <vector>

#include "layer_arguments.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

constexpr const char* operation = "encoder_layers";
constexpr const char* weight_names[] = {"in_proj", "out_proj", "linear1", "linear2"};
constexpr const char* array_names[] = {"in_bias",      "out_bias",   "linear1_bias", "linear2_bias",
                                       "norm1_weight", "norm1_bias", "norm2_weight", "norm2_bias"};

EncoderLayer encoder_layer(const LayerArguments& parts) {
  return {.in_proj = parts.weight(0),
          .out_proj = parts.weight(1),
          .linear1 = parts.weight(2),
          .linear2 = parts.weight(3),
          .in_bias = parts.array(0),
          .out_bias = parts.array(1),
          .linear1_bias = parts.array(2),
          .linear2_bias = parts.array(3),
          .norm1 = parts.norm(4, "norm1_eps"),
          .norm2 = parts.norm(6, "norm2_eps"),
          .heads = parts.heads(),
          .activation = parts.activation(),
          .norm_first = parts.norm_first()};
}

py::object run_encoder_layers(const py::object& x_object, const py::sequence& parts, const py::object& offsets_object,
                              bool causal) {
  begin_call(operation);
  FloatArray x = required_array(x_object, operation, "x");
  const Integers cu_seqlens = offsets_from(operation, offsets_object, "cu_seqlens");
  LayerStack stack(operation, parts, weight_names, array_names);
  const DType dtype = stack.convert_with(x);
  x.convert(dtype);
  std::vector<EncoderLayer> layers;
  for (const LayerArguments& layer : stack.layers()) layers.push_back(encoder_layer(layer));
  check_encoder_layers(x.view(), layers, cu_seqlens.values);
  Output out(py::none(), operation, x.view().shape, dtype, {});
  without_gil([&] { encoder_layers(x.view(), layers, cu_seqlens.values, causal, out.view()); });
  return out.finish();
}

}  // namespace

void register_encoder_layers(py::module_& module) {
  module.def(operation, &run_encoder_layers, py::arg("x"), py::arg("layers"), py::arg("cu_seqlens"), py::arg("causal"));
}

}  // namespace attnlib::bindings
