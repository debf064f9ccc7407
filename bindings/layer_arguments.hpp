// The parts of a layer that is run with others in one call, held for the time of the call: the fields of
// functional.EncoderLayerParts and its like.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "attnlib/normalization.hpp"
#include "ndarray.hpp"
#include "packed_weights.hpp"

namespace attnlib::bindings {

class LayerArguments {
 public:
  // Errors begin with `context`, such as "encoder_layers: layers[1]".
  LayerArguments(std::string context, const py::object& parts, std::span<const char* const> weight_names,
                 std::span<const char* const> array_names)
      : context_(std::move(context)), parts_(parts) {
    for (const char* name : weight_names) weights_.push_back(find_weight(name));
    arrays_.reserve(array_names.size());
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
  void convert(DType dtype) {
    for (FloatArray& array : arrays_) array.convert(dtype);
  }

  // By their places in the names.
  const PackedWeight* weight(std::size_t i) const { return weights_[i].get(); }
  const TensorView* array(std::size_t i) const { return arrays_[i].optional(); }

  // Of weight i and bias i + 1.
  NormParts norm(std::size_t i, const char* eps_name) const {
    const auto eps = float_from(parts_.attr(eps_name), context_.c_str(), eps_name);
    if (!eps) throw py::type_error(context_ + ": " + eps_name + " must be a number, got None");
    return {array(i), array(i + 1), *eps};
  }
  std::int64_t heads() const {
    const auto heads = integers_from(parts_.attr("heads"), context_.c_str(), "heads");
    if (!heads || heads->shape.rank() != 0)
      throw py::type_error(context_ + ": heads must be an integer, got " +
                           py::repr(parts_.attr("heads")).cast<std::string>());
    return heads->values[0];
  }
  Activation activation() const { return activation_from(context_.c_str(), parts_.attr("activation")); }
  bool norm_first() const { return static_cast<bool>(py::bool_(parts_.attr("norm_first"))); }

 private:
  std::shared_ptr<PackedWeight> find_weight(const char* name) const {
    const py::object object = parts_.attr(name);
    if (!py::isinstance<PackedWeight>(object))
      throw py::type_error(context_ + ": " + name + " must be a PackedWeight, got " +
                           py::type::handle_of(object).attr("__name__").cast<std::string>());
    return object.cast<std::shared_ptr<PackedWeight>>();
  }

  std::string context_;
  py::object parts_;
  std::vector<std::shared_ptr<PackedWeight>> weights_;
  std::vector<FloatArray> arrays_;
};

// All of a call's layers.
class LayerStack {
 public:
  LayerStack(const char* operation, const py::sequence& parts, std::span<const char* const> weight_names,
             std::span<const char* const> array_names)
      : operation_(operation) {
    layers_.reserve(parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i)
      layers_.emplace_back(std::string(operation) + ": layers[" + std::to_string(i) + "]", parts[i], weight_names,
                           array_names);
  }

  // The dtype that x and all parts promote to, to which the parts are converted.
  DType convert_with(const FloatArray& x) {
    DType dtype = x.dtype();
    std::vector<const PackedWeight*> weights;
    for (const LayerArguments& layer : layers_) {
      dtype = layer.promoted(dtype);
      layer.collect(weights);
    }
    dtype = promote_with(weights, dtype, operation_);
    for (LayerArguments& layer : layers_) layer.convert(dtype);
    return dtype;
  }
  const std::vector<LayerArguments>& layers() const { return layers_; }

 private:
  const char* operation_;
  std::vector<LayerArguments> layers_;
};

}  // namespace attnlib::bindings
