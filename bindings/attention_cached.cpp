#include <stdexcept>
#include <string>
#include <utility>

#include "attnlib/attention.hpp"
#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

constexpr const char* operation = "cached_attention";

py::object bound_cached_attention(const py::object& query_object, const py::object& key_object,
                                  const py::object& value_object, const py::object& key_cache_object,
                                  const py::object& value_cache_object, const py::object& lengths_object,
                                  const py::object& cos_object, const py::object& sin_object,
                                  const py::object& positions_object, bool causal, const py::object& window_object,
                                  const py::object& scale) {
  begin_call(operation);
  FloatArray query = required_array(query_object, operation, "query");
  FloatArray key = required_array(key_object, operation, "key");
  FloatArray value = required_array(value_object, operation, "value");
  FloatArray cos(cos_object, operation, "cos"), sin(sin_object, operation, "sin");
  const DType dtype = promote({&query, &key, &value});
  for (FloatArray* array : {&query, &key, &value, &cos, &sin}) array->convert(dtype);
  if (cos.absent() != sin.absent())
    throw std::invalid_argument("cached_attention: cos and sin are given together, or not at all");
  CachedTokens tokens;
  tokens.query = query.view();
  tokens.key = key.view();
  tokens.value = value.view();
  const std::initializer_list<const FloatArray*> inputs = {&query, &key, &value, &cos, &sin};
  tokens.key_cache = array_to_change(key_cache_object, operation, "key_cache", dtype, inputs);
  tokens.value_cache = array_to_change(value_cache_object, operation, "value_cache", dtype, inputs);
  if (share_memory(tokens.key_cache, key_cache_object, tokens.value_cache, value_cache_object))
    throw std::invalid_argument("cached_attention: key_cache and value_cache must share no memory");
  const auto lengths = integers_from(lengths_object, operation, "lengths");
  if (!lengths) throw py::type_error("cached_attention: lengths must be integers (B,), got None");
  tokens.lengths = {lengths->values.data(), lengths->shape, {}};
  tokens.cos = cos.optional();
  tokens.sin = sin.optional();
  const auto positions = integers_from(positions_object, operation, "positions");
  IntegerView positions_view;
  if (positions) {
    positions_view = {positions->values.data(), positions->shape, {}};
    tokens.positions = &positions_view;
  }
  AttentionOptions options;
  options.causal = causal;
  options.scale = float_from(scale, operation, "scale");
  if (const auto window = integers_from(window_object, operation, "window")) {
    if (window->shape.rank() != 0 || window->values[0] < 1)
      throw std::invalid_argument("cached_attention: window must be None or a number of tokens of at least 1, got " +
                                  py::repr(window_object).cast<std::string>());
    options.window_left = window->values[0] - 1;
  }

  const Shape& given = query.view().shape;
  if (given.rank() != 4 || value.view().rank() != 4)
    throw std::invalid_argument("cached_attention: query, key and value must have four axes, got query " +
                                given.to_string() + " and value " + value.view().shape.to_string());
  // Heads lie beside each other, so that what follows needs no copy.
  Output out(py::none(), operation, Shape{given[0], given[2], given[1], value.view().shape[3]}, dtype, {});
  TensorView heads = out.view();
  std::swap(heads.shape[1], heads.shape[2]);
  std::swap(heads.strides[1], heads.strides[2]);
  without_gil([&] { cached_attention(tokens, options, heads); });
  return out.finish();
}

}  // namespace

void register_attention_cached(py::module_& module) {
  module.def("cached_attention", &bound_cached_attention, py::arg("query"), py::arg("key"), py::arg("value"),
             py::arg("key_cache"), py::arg("value_cache"), py::arg("lengths"), py::arg("cos"), py::arg("sin"),
             py::arg("positions"), py::arg("causal"), py::arg("window"), py::arg("scale"));
}

}  // namespace attnlib::bindings
