#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "attnlib/attention.hpp"
#include "attnlib/cached_self_attention.hpp"
#include "ndarray.hpp"
#include "packed_weights.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

// The cache, and what else a step needs to know besides its tokens.
struct StepArguments {
  const py::object &key_cache, &value_cache, &lengths;
  FloatArray &cos, &sin;
  const py::object &positions, &window, &scale;
};

// The same as the operations take it, in `dtype`. `inputs`, the tables among them, share no memory with the cache.
class Step {
 public:
  Step(const char* operation, const StepArguments& given, DType dtype, std::initializer_list<const FloatArray*> inputs)
      : lengths_(integers_from(given.lengths, operation, "lengths")),
        positions_(integers_from(given.positions, operation, "positions")) {
    const std::string name(operation);
    if (given.cos.absent() != given.sin.absent())
      throw std::invalid_argument(name + ": cos and sin are given together, or not at all");
    given.cos.convert(dtype);
    given.sin.convert(dtype);
    tokens_.key_cache = array_to_change(given.key_cache, operation, "key_cache", dtype, inputs);
    tokens_.value_cache = array_to_change(given.value_cache, operation, "value_cache", dtype, inputs);
    if (share_memory(tokens_.key_cache, given.key_cache, tokens_.value_cache, given.value_cache))
      throw std::invalid_argument(name + ": key_cache and value_cache must share no memory");
    if (!lengths_) throw py::type_error(name + ": lengths must be integers (B,), got None");
    tokens_.lengths = {lengths_->values.data(), lengths_->shape, {}};
    tokens_.cos = given.cos.optional();
    tokens_.sin = given.sin.optional();
    if (positions_) {
      positions_view_ = {positions_->values.data(), positions_->shape, {}};
      tokens_.positions = &positions_view_;
    }
    options_.scale = float_from(given.scale, operation, "scale");
    if (const auto window = integers_from(given.window, operation, "window")) {
      if (window->shape.rank() != 0 || window->values[0] < 1)
        throw std::invalid_argument(name + ": window must be None or a number of tokens of at least 1, got " +
                                    py::repr(given.window).cast<std::string>());
      options_.window_left = window->values[0] - 1;
    }
  }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  CachedTokens& tokens() { return tokens_; }
  AttentionOptions& options() { return options_; }

 private:
  std::optional<Integers> lengths_, positions_;
  IntegerView positions_view_;
  CachedTokens tokens_;
  AttentionOptions options_;
};

py::object bound_cached_attention(const py::object& query_object, const py::object& key_object,
                                  const py::object& value_object, const py::object& key_cache,
                                  const py::object& value_cache, const py::object& lengths,
                                  const py::object& cos_object, const py::object& sin_object,
                                  const py::object& positions, bool causal, const py::object& window,
                                  const py::object& scale) {
  constexpr const char* operation = "cached_attention";
  begin_call(operation);
  FloatArray query = required_array(query_object, operation, "query");
  FloatArray key = required_array(key_object, operation, "key");
  FloatArray value = required_array(value_object, operation, "value");
  FloatArray cos(cos_object, operation, "cos"), sin(sin_object, operation, "sin");
  const DType dtype = promote({&query, &key, &value});
  for (FloatArray* array : {&query, &key, &value}) array->convert(dtype);
  Step step(operation, {key_cache, value_cache, lengths, cos, sin, positions, window, scale}, dtype,
            {&query, &key, &value, &cos, &sin});
  step.tokens().query = query.view();
  step.tokens().key = key.view();
  step.tokens().value = value.view();
  step.options().causal = causal;

  const Shape& given = query.view().shape;
  if (given.rank() != 4 || value.view().rank() != 4)
    throw std::invalid_argument("cached_attention: query, key and value must have four axes, got query " +
                                given.to_string() + " and value " + value.view().shape.to_string());
  // Heads lie beside each other, so that what follows needs no copy.
  Output out(py::none(), operation, Shape{given[0], given[2], given[1], value.view().shape[3]}, dtype, {});
  TensorView heads = out.view();
  std::swap(heads.shape[1], heads.shape[2]);
  std::swap(heads.strides[1], heads.strides[2]);
  without_gil([&] { cached_attention(step.tokens(), step.options(), heads); });
  return out.finish();
}

py::object bound_cached_self_attention(
    const py::object& x_object, const py::object& key_cache, const py::object& value_cache, const py::object& lengths,
    const py::object& norm_weight_object, const std::shared_ptr<PackedWeight>& in_proj,
    const std::shared_ptr<PackedWeight>& out_proj, std::int64_t heads, std::int64_t groups, double eps,
    const py::object& in_bias_object, const py::object& out_bias_object, const py::object& query_norm_object,
    const py::object& key_norm_object, const py::object& cos_object, const py::object& sin_object,
    const py::object& positions, const py::object& window, const py::object& scale) {
  constexpr const char* operation = "cached_self_attention";
  begin_call(operation);
  FloatArray x = required_array(x_object, operation, "x");
  FloatArray norm_weight(norm_weight_object, operation, "norm_weight");
  FloatArray in_bias(in_bias_object, operation, "in_bias"), out_bias(out_bias_object, operation, "out_bias");
  FloatArray query_norm(query_norm_object, operation, "query_norm"), key_norm(key_norm_object, operation, "key_norm");
  FloatArray cos(cos_object, operation, "cos"), sin(sin_object, operation, "sin");
  const DType dtype = promote_with(std::array{in_proj.get(), out_proj.get()},
                                   promote({&x, &norm_weight, &in_bias, &out_bias, &query_norm, &key_norm}), operation);
  for (FloatArray* array : {&x, &norm_weight, &in_bias, &out_bias, &query_norm, &key_norm}) array->convert(dtype);
  const SelfAttention attention{.norm_weight = norm_weight.optional(),
                                .eps = eps,
                                .heads = heads,
                                .groups = groups,
                                .in_proj = in_proj.get(),
                                .out_proj = out_proj.get(),
                                .in_bias = in_bias.optional(),
                                .out_bias = out_bias.optional(),
                                .query_norm = query_norm.optional(),
                                .key_norm = key_norm.optional()};
  check_self_attention(x.view(), attention);
  Step step(operation, {key_cache, value_cache, lengths, cos, sin, positions, window, scale}, dtype,
            {&x, &norm_weight, &in_bias, &out_bias, &query_norm, &key_norm, &cos, &sin});
  step.options().causal = true;
  Output out(py::none(), operation, x.view().shape, dtype, {});
  without_gil([&] { cached_self_attention(x.view(), attention, step.tokens(), step.options(), out.view()); });
  return out.finish();
}

}  // namespace

void register_attention_cached(py::module_& module) {
  module.def("cached_attention", &bound_cached_attention, py::arg("query"), py::arg("key"), py::arg("value"),
             py::arg("key_cache"), py::arg("value_cache"), py::arg("lengths"), py::arg("cos"), py::arg("sin"),
             py::arg("positions"), py::arg("causal"), py::arg("window"), py::arg("scale"));
  module.def("cached_self_attention", &bound_cached_self_attention, py::arg("x"), py::arg("key_cache"),
             py::arg("value_cache"), py::arg("lengths"), py::arg("norm_weight"), py::arg("in_proj").none(false),
             py::arg("out_proj").none(false), py::arg("heads"), py::arg("groups"), py::arg("eps"), py::arg("in_bias"),
             py::arg("out_bias"), py::arg("query_norm"), py::arg("key_norm"), py::arg("cos"), py::arg("sin"),
             py::arg("positions"), py::arg("window"), py::arg("scale"));
}

}  // namespace attnlib::bindings
