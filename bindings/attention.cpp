#include "attnlib/attention.hpp"

#include <pybind11/pybind11.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "arguments.hpp"
#include "ndarray.hpp"
#include "register.hpp"

namespace attnlib::bindings {
namespace {

DType compute_dtype_of(DType dtype) { return dtype == DType::float64 ? DType::float64 : DType::float32; }

// The options that both forms share, and the arrays that they point to.
struct CommonOptions {
  FloatArray alibi_slopes, sinks;
  AttentionOptions options;

  CommonOptions(const char* operation, bool causal, const py::object& window, const py::object& scale,
                const py::object& softcap, const py::object& alibi_slopes_object, const py::object& sinks_object)
      : alibi_slopes(alibi_slopes_object, operation, "alibi_slopes"), sinks(sinks_object, operation, "sinks") {
    options.causal = causal;
    options.scale = float_from(scale, operation, "scale");
    options.softcap = float_from(softcap, operation, "softcap");
    if (window.is_none()) return;
    if (!py::isinstance<py::sequence>(window) || py::len(window) != 2)
      throw std::invalid_argument(std::string(operation) + ": window must be None or (left, right), got " +
                                  py::repr(window).cast<std::string>());
    const auto side = [&](int index) -> std::optional<std::int64_t> {
      const py::object entry = window[py::int_(index)];
      if (entry.is_none()) return std::nullopt;
      if (!PyIndex_Check(entry.ptr()))
        throw py::type_error(std::string(operation) + ": window sides must be integers or None, got " +
                             py::repr(window).cast<std::string>());
      const std::int64_t value = PyLong_AsLongLong(py::int_(entry).ptr());
      if (value == -1 && PyErr_Occurred() != nullptr) {
        PyErr_Clear();
        throw std::invalid_argument(std::string(operation) + ": window sides must fit into int64, got " +
                                    py::repr(window).cast<std::string>());
      }
      return value;
    };
    options.window_left = side(0);
    options.window_right = side(1);
  }

  // Per-head parameters are used in the compute dtype; they do not take part in the promotion of the result.
  void convert(DType compute) {
    alibi_slopes.convert(compute);
    sinks.convert(compute);
    options.alibi_slopes = alibi_slopes.optional();
    options.sinks = sinks.optional();
  }
};

// (out[, weights][, lse]), or out alone.
py::object joined_results(Output& out, std::optional<Output>& weights, std::optional<Output>& lse) {
  py::object first = out.finish();
  if (!weights && !lse) return first;
  py::list results;
  results.append(first);
  if (weights) results.append(weights->finish());
  if (lse) results.append(lse->finish());
  return py::tuple(results);
}

IntegerView view_of(const Integers& integers) {
  IntegerView view;
  view.data = integers.values.data();
  view.shape = integers.shape;
  std::int64_t stride = integers.shape.size();
  for (std::int64_t extent : integers.shape) {
    stride = extent == 0 ? 0 : stride / extent;
    view.strides.push_back(stride);
  }
  return view;
}

py::object bound_attention(const py::object& query_object, const py::object& key_object, const py::object& value_object,
                           const py::object& mask_object, const py::object& bias_object, bool causal,
                           const py::object& window, const py::object& query_offset_object,
                           const py::object& key_lengths_object, const py::object& scale, const py::object& softcap,
                           const py::object& alibi_slopes_object, const py::object& sinks_object, bool return_weights,
                           bool return_lse, const py::object& out_object) {
  begin_call("attention");
  FloatArray query = required_array(query_object, "attention", "query");
  FloatArray key = required_array(key_object, "attention", "key");
  FloatArray value = required_array(value_object, "attention", "value");
  const BoolArray mask(mask_object, "attention", "mask");
  FloatArray bias(bias_object, "attention", "bias");
  CommonOptions common("attention", causal, window, scale, softcap, alibi_slopes_object, sinks_object);
  const AttentionShapes shapes = attention_shapes(query.view().shape, key.view().shape, value.view().shape);
  const DType dtype = promote({&query, &key, &value, &bias});
  Output out(out_object, "attention", shapes.out, dtype,
             {&query, &key, &value, &bias, &common.alibi_slopes, &common.sinks}, false, &mask);
  query.convert(dtype);
  key.convert(dtype);
  value.convert(dtype);
  bias.cast(dtype);
  common.convert(compute_dtype_of(dtype));
  AttentionOptions& options = common.options;
  options.mask = mask.optional();
  options.bias = bias.optional();
  const auto query_offset = integers_from(query_offset_object, "attention", "query_offset");
  const auto key_lengths = integers_from(key_lengths_object, "attention", "key_lengths");
  IntegerView query_offset_view, key_lengths_view;
  if (query_offset) options.query_offset = &(query_offset_view = view_of(*query_offset));
  if (key_lengths) options.key_lengths = &(key_lengths_view = view_of(*key_lengths));

  std::optional<Output> weights, lse;
  AttentionResults results{out.view()};
  if (return_weights) {
    weights.emplace(py::none(), "attention", shapes.weights, dtype, std::initializer_list<const FloatArray*>{});
    results.weights = &weights->view();
  }
  if (return_lse) {
    lse.emplace(py::none(), "attention", shapes.lse, compute_dtype_of(dtype),
                std::initializer_list<const FloatArray*>{});
    results.lse = &lse->view();
  }
  without_gil([&] { attention(query.view(), key.view(), value.view(), options, results); });
  return joined_results(out, weights, lse);
}

py::object bound_attention_varlen(const py::object& query_object, const py::object& key_object,
                                  const py::object& value_object, const py::object& cu_seqlens_q_object,
                                  const py::object& cu_seqlens_k_object, bool causal, const py::object& window,
                                  const py::object& scale, const py::object& softcap,
                                  const py::object& alibi_slopes_object, const py::object& sinks_object,
                                  bool return_lse, const py::object& out_object) {
  begin_call("attention_varlen");
  FloatArray query = required_array(query_object, "attention_varlen", "query");
  FloatArray key = required_array(key_object, "attention_varlen", "key");
  FloatArray value = required_array(value_object, "attention_varlen", "value");
  CommonOptions common("attention_varlen", causal, window, scale, softcap, alibi_slopes_object, sinks_object);
  const AttentionShapes shapes = attention_varlen_shapes(query.view().shape, key.view().shape, value.view().shape);
  const DType dtype = promote({&query, &key, &value});
  Output out(out_object, "attention_varlen", shapes.out, dtype,
             {&query, &key, &value, &common.alibi_slopes, &common.sinks});
  query.convert(dtype);
  key.convert(dtype);
  value.convert(dtype);
  common.convert(compute_dtype_of(dtype));
  const Integers cu_seqlens_q = offsets_from("attention_varlen", cu_seqlens_q_object, "cu_seqlens_q");
  const Integers cu_seqlens_k = cu_seqlens_k_object.is_none()
                                    ? cu_seqlens_q
                                    : offsets_from("attention_varlen", cu_seqlens_k_object, "cu_seqlens_k");

  std::optional<Output> weights, lse;
  AttentionResults results{out.view()};
  if (return_lse) {
    lse.emplace(py::none(), "attention_varlen", shapes.lse, compute_dtype_of(dtype),
                std::initializer_list<const FloatArray*>{});
    results.lse = &lse->view();
  }
  without_gil([&] {
    attention_varlen(query.view(), key.view(), value.view(), cu_seqlens_q.values, cu_seqlens_k.values, common.options,
                     results);
  });
  return joined_results(out, weights, lse);
}

py::object bound_merge_attention(const py::object& outs_object, const py::object& lses_object) {
  begin_call("merge_attention");
  FloatArray outs = required_array(outs_object, "merge_attention", "outs");
  FloatArray lses = required_array(lses_object, "merge_attention", "lses");
  const DType dtype = outs.dtype(), compute = compute_dtype_of(dtype);
  outs.make_contiguous(dtype);
  lses.make_contiguous(compute);
  Shape out_shape, lse_shape;
  for (int axis = 1; axis < outs.view().rank(); ++axis) out_shape.push_back(outs.view().shape[axis]);
  for (int axis = 1; axis < lses.view().rank(); ++axis) lse_shape.push_back(lses.view().shape[axis]);
  Output out(py::none(), "merge_attention", out_shape, dtype, {});
  Output lse(py::none(), "merge_attention", lse_shape, compute, {});
  without_gil([&] { merge_attention(outs.view(), lses.view(), out.view(), lse.view()); });
  py::object merged = out.finish();
  return py::make_tuple(merged, lse.finish());
}

}  // namespace

void register_attention(py::module_& module) {
  module.def("attention", &bound_attention, py::arg("query"), py::arg("key"), py::arg("value"), py::arg("mask"),
             py::arg("bias"), py::arg("causal"), py::arg("window"), py::arg("query_offset"), py::arg("key_lengths"),
             py::arg("scale"), py::arg("softcap"), py::arg("alibi_slopes"), py::arg("sinks"), py::arg("return_weights"),
             py::arg("return_lse"), py::arg("out"));
  module.def("attention_varlen", &bound_attention_varlen, py::arg("query"), py::arg("key"), py::arg("value"),
             py::arg("cu_seqlens_q"), py::arg("cu_seqlens_k"), py::arg("causal"), py::arg("window"), py::arg("scale"),
             py::arg("softcap"), py::arg("alibi_slopes"), py::arg("sinks"), py::arg("return_lse"), py::arg("out"));
  module.def("merge_attention", &bound_merge_attention, py::arg("outs"), py::arg("lses"));
}

}  // namespace attnlib::bindings
