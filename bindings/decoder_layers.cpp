#include "attnlib/decoder_layers.hpp"

#include <deque>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "layer_arguments.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

constexpr const char* operation = "decoder_layers";
constexpr const char* weight_names[] = {"in_proj", "out_proj", "query_proj", "memory_out_proj", "linear1", "linear2"};
constexpr const char* array_names[] = {"in_bias",      "out_bias",     "query_bias",   "memory_out_bias",
                                       "linear1_bias", "linear2_bias", "norm1_weight", "norm1_bias",
                                       "norm2_weight", "norm2_bias",   "norm3_weight", "norm3_bias"};

DecoderLayer decoder_layer(const LayerArguments& parts) {
  return {.in_proj = parts.weight(0),
          .out_proj = parts.weight(1),
          .query_proj = parts.weight(2),
          .memory_out_proj = parts.weight(3),
          .linear1 = parts.weight(4),
          .linear2 = parts.weight(5),
          .in_bias = parts.array(0),
          .out_bias = parts.array(1),
          .query_bias = parts.array(2),
          .memory_out_bias = parts.array(3),
          .linear1_bias = parts.array(4),
          .linear2_bias = parts.array(5),
          .norm1 = parts.norm(6, "norm1_eps"),
          .norm2 = parts.norm(8, "norm2_eps"),
          .norm3 = parts.norm(10, "norm3_eps"),
          .heads = parts.heads(),
          .activation = parts.activation(),
          .norm_first = parts.norm_first()};
}

// The fields of a functional.DecoderLayerPast, held for the time of the call.
class PastArguments {
 public:
  PastArguments(std::string context, const py::object& past, DType dtype, const FloatArray& x)
      : context_(std::move(context)),
        key_cache_(past.attr("key_cache")),
        value_cache_(past.attr("value_cache")),
        lengths_(integers(past, "lengths")),
        key_(required_array(past.attr("key"), context_.c_str(), "key")),
        value_(required_array(past.attr("value"), context_.c_str(), "value")),
        memory_lengths_(integers(past, "memory_lengths")) {
    for (FloatArray* array : {&key_, &value_}) {
      if (array->dtype() != dtype)  // a memory is long, and read for each token: it is not widened on the way
        throw py::type_error(context_ + ": " + array->argument() + " must be " + dtype_name(dtype) +
                             " as what it meets is, got " + dtype_name(array->dtype()));
      array->convert(dtype);
    }
    const auto cache = [&](const py::object& object, const char* name) {
      return array_to_change(object, context_.c_str(), name, dtype, {&x, &key_, &value_});
    };
    past_ = {.key_cache = cache(key_cache_, "key_cache"),
             .value_cache = cache(value_cache_, "value_cache"),
             .lengths = {lengths_.values.data(), lengths_.shape, {1}},
             .key = key_.view(),
             .value = value_.view(),
             .memory_lengths = {memory_lengths_.values.data(), memory_lengths_.shape, {1}}};
    if (share_memory(past_.key_cache, key_cache_, past_.value_cache, value_cache_))
      throw std::invalid_argument(context_ + ": key_cache and value_cache must share no memory");
  }
  PastArguments(const PastArguments&) = delete;
  PastArguments& operator=(const PastArguments&) = delete;

  const DecoderLayerPast& past() const { return past_; }

 private:
  Integers integers(const py::object& past, const char* name) const {
    auto found = integers_from(past.attr(name), context_.c_str(), name);
    if (!found || found->shape.rank() != 1)
      throw py::type_error(context_ + ": " + name + " must be integers (B,), got " +
                           py::repr(past.attr(name)).cast<std::string>());
    return std::move(*found);
  }

  std::string context_;
  py::object key_cache_, value_cache_;
  Integers lengths_;
  FloatArray key_, value_;
  Integers memory_lengths_;
  DecoderLayerPast past_;
};

py::object run_decoder_layers(const py::object& x_object, const py::sequence& parts, const py::sequence& past_objects) {
  begin_call(operation);
  FloatArray x = required_array(x_object, operation, "x");
  LayerStack stack(operation, parts, weight_names, array_names);
  const DType dtype = stack.convert_with(x);
  x.make_contiguous(dtype);
  std::vector<DecoderLayer> layers;
  for (const LayerArguments& layer : stack.layers()) layers.push_back(decoder_layer(layer));
  std::deque<PastArguments> arguments;  // which stay where they are
  std::vector<DecoderLayerPast> pasts;
  for (std::size_t i = 0; i < past_objects.size(); ++i) {
    const std::string context = std::string(operation) + ": pasts[" + std::to_string(i) + "]";
    pasts.push_back(arguments.emplace_back(context, past_objects[i], dtype, x).past());
  }
  check_decoder_layers(x.view(), layers, pasts);
  Output out(py::none(), operation, x.view().shape, dtype, {});
  without_gil([&] { decoder_layers(x.view(), layers, pasts, out.view()); });
  return out.finish();
}

}  // namespace

void register_decoder_layers(py::module_& module) {
  module.def(operation, &run_decoder_layers, py::arg("x"), py::arg("layers"), py::arg("pasts"));
}

}  // namespace attnlib::bindings
