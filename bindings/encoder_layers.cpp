#include "attnlib/encoder_layers.hpp"

#include <memory>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "ndarray.hpp"
#include "packed_weights.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

constexpr const char* operation = "encoder_layers";

// What a layer consists of, held for the time of the call: the fields of functional.EncoderLayerParts.
class LayerArguments {
 public:
  LayerArguments(const py::object& parts, std::size_t index)
      : context_(std::string(operation) + ": layers[" + std::to_string(index) + "]"), parts_(parts) {
    for (std::size_t i = 0; i < 4; ++i) weights_[i] = weight(weight_names[i]);
    arrays_.reserve(8);
    for (const char* name : array_names) arrays_.emplace_back(parts_.attr(name), context_.c_str(), name);
  }

  DType promoted(DType dtype) const {
    for (const FloatArray& array : arrays_)
      if (!array.absent()) dtype = promote_types(dtype, array.dtype());
    return dtype;
  }
  void collect(std::vector<const PackedWeight*>& weights) const {
    for (const auto& weight : weights_) weights.push_back(weight.get());
  }
  EncoderLayer layer(DType dtype) {
    for (FloatArray& array : arrays_) array.convert(dtype);
    const auto array = [&](std::size_t i) { return arrays_[i].optional(); };
    return {.in_proj = weights_[0].get(),
            .out_proj = weights_[1].get(),
            .linear1 = weights_[2].get(),
            .linear2 = weights_[3].get(),
            .in_bias = array(0),
            .out_bias = array(1),
            .linear1_bias = array(2),
            .linear2_bias = array(3),
            .norm1_weight = array(4),
            .norm1_bias = array(5),
            .norm2_weight = array(6),
            .norm2_bias = array(7),
            .norm1_eps = eps("norm1_eps"),
            .norm2_eps = eps("norm2_eps"),
            .heads = heads(),
            .activation = activation_from(context_.c_str(), parts_.attr("activation")),
            .norm_first = static_cast<bool>(py::bool_(parts_.attr("norm_first")))};
  }

 private:
  static constexpr const char* weight_names[] = {"in_proj", "out_proj", "linear1", "linear2"};
  static constexpr const char* array_names[] = {"in_bias",      "out_bias",   "linear1_bias", "linear2_bias",
                                                "norm1_weight", "norm1_bias", "norm2_weight", "norm2_bias"};

  std::shared_ptr<PackedWeight> weight(const char* name) const {
    const py::object object = parts_.attr(name);
    if (!py::isinstance<PackedWeight>(object))
      throw py::type_error(context_ + ": " + name + " must be a PackedWeight, got " +
                           py::type::handle_of(object).attr("__name__").cast<std::string>());
    return object.cast<std::shared_ptr<PackedWeight>>();
  }

  double eps(const char* name) const {
    const auto eps = float_from(parts_.attr(name), context_.c_str(), name);
    if (!eps) throw py::type_error(context_ + ": " + name + " must be a number, got None");
    return *eps;
  }

  std::int64_t heads() const {
    const auto heads = integers_from(parts_.attr("heads"), context_.c_str(), "heads");
    if (!heads || heads->shape.rank() != 0)
      throw py::type_error(context_ + ": heads must be an integer, got " +
                           py::repr(parts_.attr("heads")).cast<std::string>());
    return heads->values[0];
  }

  std::string context_;
  py::object parts_;
  std::shared_ptr<PackedWeight> weights_[4];
  std::vector<FloatArray> arrays_;
};

py::object run_encoder_layers(const py::object& x_object, const py::sequence& parts, const py::object& offsets_object,
                              bool causal) {
  begin_call(operation);
  FloatArray x = required_array(x_object, operation, "x");
  const Integers cu_seqlens = offsets_from(operation, offsets_object, "cu_seqlens");
  std::vector<LayerArguments> arguments;
  arguments.reserve(parts.size());
  std::vector<const PackedWeight*> weights;
  DType dtype = x.dtype();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    arguments.emplace_back(parts[i], i);
    dtype = arguments.back().promoted(dtype);
    arguments.back().collect(weights);
  }
  dtype = promote_with(weights, dtype, operation);
  x.convert(dtype);
  std::vector<EncoderLayer> layers;
  layers.reserve(arguments.size());
  for (LayerArguments& layer : arguments) layers.push_back(layer.layer(dtype));
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
