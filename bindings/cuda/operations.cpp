// matmul, softmax and attention of attnlib.cuda: shapes are checked as for the CPU, by the same functions and in the
// same words, and before any GPU is looked for.
#include <pybind11/numpy.h>

#include <cmath>
#include <memory>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "attnlib/attention.hpp"
#include "attnlib/matmul.hpp"
#include "attnlib/softmax.hpp"
#include "cuda/device_array.hpp"
#include "cuda/launch.hpp"
#include "ndarray.hpp"

namespace attnlib::bindings {
namespace {

// The arguments of a call: all on one GPU, or all in the host's memory, from where they are copied.
class Call {
 public:
  Call(const char* operation, std::intptr_t stream, std::initializer_list<std::pair<const char*, py::object>> arguments)
      : operation_(operation), stream_(stream) {
    std::size_t on_device = 0;
    for (const auto& [name, object] : arguments) on_device += is_on_device(object) ? 1 : 0;
    if (on_device != 0 && on_device != arguments.size())
      throw std::invalid_argument(prefix() + "the arrays must all lie on one GPU, or all in the host's memory");
    host_ = on_device == 0;
    for (const auto& [name, object] : arguments) {
      if (host_) {
        arrays_.push_back(required_array(object, operation, name));
        views.push_back(arrays_.back().view());
      } else {
        owners_.push_back(device_argument(object, stream, operation, name));
        views.push_back(owners_.back().view);
        if (owners_.back().device != owners_.front().device)
          throw std::invalid_argument(prefix() + "the arrays must lie on one GPU, got devices " +
                                      std::to_string(owners_.front().device) + " and " +
                                      std::to_string(owners_.back().device));
        if (views.back().dtype != views.front().dtype)
          throw py::type_error(prefix() + "arrays on a GPU must have one dtype, got " +
                               dtype_name(views.front().dtype) + " and " + dtype_name(views.back().dtype));
      }
    }
    dtype = views.front().dtype;
    for (const TensorView& view : views) dtype = promote_types(dtype, view.dtype);
    if (dtype == DType::float64) throw py::type_error(prefix() + "float64 is not supported on a GPU");
  }

  // To be called when all shapes are known to be right: `launch(out)` enqueues the kernel.
  template <class Launch>
  py::object run(const Shape& shape, Launch&& launch) {
    const cudaStream_t stream = reinterpret_cast<cudaStream_t>(stream_);
    int device = 0;
    if (host_)
      cuda::check(cudaGetDevice(&device), operation_);
    else
      device = owners_.front().device;
    const CurrentDevice current(device, operation_);
    if (host_) upload(stream);
    DeviceArray result;
    result.memory = std::make_shared<DeviceMemory>(shape.size() * dtype_size(dtype), operation_);
    result.view = contiguous_view(result.memory->get(), shape, dtype);
    result.device = device;
    result.stream = stream_;
    if (shape.size() > 0) launch(result.view, stream);
    if (host_) return result.numpy();
    return py::cast(std::move(result));
  }

  std::vector<TensorView> views;
  DType dtype;

 private:
  std::string prefix() const { return std::string(operation_) + ": "; }
  void upload(cudaStream_t stream) {
    for (std::size_t i = 0; i < views.size(); ++i) {
      arrays_[i].make_contiguous(dtype);
      const TensorView& source = arrays_[i].view();
      const std::int64_t bytes = source.size() * dtype_size(dtype);
      copies_.push_back(std::make_unique<DeviceMemory>(bytes, operation_));
      views[i] = contiguous_view(copies_.back()->get(), source.shape, dtype);
      if (bytes > 0)
        cuda::check(cudaMemcpyAsync(views[i].data, source.data, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice,
                                    stream),
                    operation_);
    }
  }

  const char* operation_;
  std::intptr_t stream_;
  bool host_ = true;
  std::vector<FloatArray> arrays_;
  std::vector<DeviceArgument> owners_;
  std::vector<std::unique_ptr<DeviceMemory>> copies_;
};

template <int arrays>
void set_leading(cuda::LeadingAxes<arrays>& leading, const Shape& extents, const char* operation) {
  if (extents.rank() > cuda::max_leading_axes)
    throw std::invalid_argument(std::string(operation) + ": at most 8 leading axes are supported on a GPU");
  leading.rank = extents.rank();
  for (int axis = 0; axis < extents.rank(); ++axis) leading.extents[axis] = extents[axis];
}

template <int arrays>
void set_strides(cuda::LeadingAxes<arrays>& leading, int array, const Shape& strides) {
  for (int axis = 0; axis < strides.rank(); ++axis) leading.strides[array][axis] = strides[axis];
}

// Strides of the leading axes of a view whose last `axes` are a matrix's (or a head's).
Shape leading_strides(const TensorView& view, int axes, const Shape& batch) {
  const int own = view.rank() > axes ? view.rank() - axes : 0;
  return broadcast_strides(view.shape.first(own), view.strides.first(own), batch, "");
}

// Whether every row of every matrix starts at a multiple of 16 bytes.
bool wide(const TensorView& view) {
  const std::int64_t piece = 16 / dtype_size(view.dtype);
  if (view.strides.from_end(1) != 1 || reinterpret_cast<std::uintptr_t>(view.data) % 16 != 0) return false;
  for (int axis = 0; axis + 1 < view.rank(); ++axis)
    if (view.strides[axis] % piece != 0) return false;
  return true;
}

TensorView with_axis(const TensorView& view, int place) {
  TensorView result = view;
  result.shape = result.strides = Shape{};
  for (int axis = 0; axis <= view.rank(); ++axis) {
    if (axis == place) {
      result.shape.push_back(1);
      result.strides.push_back(0);
    }
    if (axis == view.rank()) break;
    result.shape.push_back(view.shape[axis]);
    result.strides.push_back(view.strides[axis]);
  }
  return result;
}

py::object bound_matmul(const py::object& a_object, const py::object& b_object, std::intptr_t stream) {
  Call call("matmul", stream, {{"a", a_object}, {"b", b_object}});
  const Shape shape = matmul_shape(call.views[0].shape, call.views[1].shape);
  return call.run(shape, [&](TensorView out, cudaStream_t on) {
    TensorView a = call.views[0], b = call.views[1];
    const bool row = a.rank() == 1, column = b.rank() == 1;
    if (row) a = with_axis(a, 0);
    if (column) b = with_axis(b, 1);
    if (row) out = with_axis(out, column ? out.rank() : out.rank() - 1);
    if (column) out = with_axis(out, out.rank());
    cuda::MatmulArguments arguments{};
    const Shape batch = out.shape.first(out.rank() - 2);
    set_leading(arguments.batch, batch, "matmul");
    set_strides(arguments.batch, 0, leading_strides(a, 2, batch));
    set_strides(arguments.batch, 1, leading_strides(b, 2, batch));
    set_strides(arguments.batch, 2, leading_strides(out, 2, batch));
    arguments.a = a.data, arguments.b = b.data, arguments.out = out.data;
    for (int axis = 0; axis < 2; ++axis) {
      arguments.a_strides[axis] = a.strides.from_end(2 - axis);
      arguments.b_strides[axis] = b.strides.from_end(2 - axis);
      arguments.out_strides[axis] = out.strides.from_end(2 - axis);
    }
    arguments.batches = batch.size();
    arguments.rows = a.shape.from_end(2), arguments.depth = a.shape.from_end(1),
    arguments.columns = b.shape.from_end(1);
    arguments.a_wide = wide(a), arguments.b_wide = wide(b);
    cuda::launch_matmul(arguments, call.dtype, on);
  });
}

py::object bound_softmax(const py::object& x_object, int axis, std::intptr_t stream) {
  Call call("softmax", stream, {{"x", x_object}});
  check_softmax("softmax", call.views[0], axis, nullptr);
  return call.run(call.views[0].shape, [&](const TensorView& out, cudaStream_t on) {
    const TensorView& x = call.views[0];
    const int along = axis < 0 ? axis + x.rank() : axis;
    Shape extents, x_strides, out_strides;
    for (int other = 0; other < x.rank(); ++other) {
      if (other == along) continue;
      extents.push_back(x.shape[other]);
      x_strides.push_back(x.strides[other]);
      out_strides.push_back(out.strides[other]);
    }
    cuda::SoftmaxArguments arguments{};
    set_leading(arguments.rows_at, extents, "softmax");
    set_strides(arguments.rows_at, 0, x_strides);
    set_strides(arguments.rows_at, 1, out_strides);
    arguments.x = x.data, arguments.out = out.data;
    arguments.rows = extents.size(), arguments.n = x.shape[along];
    arguments.x_step = x.strides[along], arguments.out_step = out.strides[along];
    cuda::launch_softmax(arguments, call.dtype, on);
  });
}

py::object bound_attention(const py::object& query_object, const py::object& key_object, const py::object& value_object,
                           bool causal, const py::object& key_lengths_object, const py::object& scale_object,
                           std::intptr_t stream) {
  Call call("attention", stream, {{"query", query_object}, {"key", key_object}, {"value", value_object}});
  const AttentionShapes shapes = attention_shapes(call.views[0].shape, call.views[1].shape, call.views[2].shape);
  const std::int64_t size = call.views[0].shape.from_end(1), value_size = call.views[2].shape.from_end(1);
  if (size < 1 || size > cuda::max_head_size || value_size > cuda::max_head_size)
    throw std::invalid_argument("attention: head sizes from 1 to 256 are supported on a GPU, got D = " +
                                std::to_string(size) + " and Dv = " + std::to_string(value_size));
  const std::int64_t keys = call.views[1].shape.from_end(2);
  const std::optional<double> scale = float_from(scale_object, "attention", "scale");
  // One length for each entry of the batch, whatever they broadcast from.
  std::vector<std::int64_t> lengths;
  if (const auto given = integers_from(key_lengths_object, "attention", "key_lengths")) {
    const TensorView as_given = contiguous_view(nullptr, given->shape, DType::float32);
    const bool one = given->values.size() == 1;
    const Shape strides =
        one ? Shape{} : broadcast_strides(given->shape, as_given.strides, shapes.batch, "attention: key_lengths");
    for (std::int64_t n = 0; n < shapes.batch.size(); ++n) {
      const std::int64_t at = one ? 0 : offset_of(n, shapes.batch, strides, shapes.batch.rank());
      lengths.push_back(given->values[static_cast<std::size_t>(at)]);
      if (lengths.back() < 0 || lengths.back() > keys)
        throw std::invalid_argument("attention: key_lengths must lie between 0 and Sk = " + std::to_string(keys) +
                                    ", got " + std::to_string(lengths.back()));
    }
  }
  return call.run(shapes.out, [&](TensorView out, cudaStream_t on) {
    if (out.rank() == 2) out = with_axis(out, 0);
    cuda::AttentionArguments arguments{};
    set_leading(arguments.batch, shapes.batch, "attention");
    const auto place = [&](int array, TensorView view, const void*& data, std::int64_t (&strides)[3]) {
      if (view.rank() == 2) view = with_axis(view, 0);
      data = view.data;
      for (int axis = 0; axis < 3; ++axis) strides[axis] = view.strides.from_end(3 - axis);
      set_strides(arguments.batch, array, leading_strides(view, 3, shapes.batch));
      return wide(view);
    };
    arguments.query_wide = place(0, call.views[0], arguments.query, arguments.query_strides);
    arguments.key_wide = place(1, call.views[1], arguments.key, arguments.key_strides);
    arguments.value_wide = place(2, call.views[2], arguments.value, arguments.value_strides);
    const void* target = nullptr;
    place(3, out, target, arguments.out_strides);
    arguments.out = out.data;
    std::unique_ptr<DeviceMemory> device_lengths;
    if (!lengths.empty()) {
      const std::size_t bytes = lengths.size() * sizeof(std::int64_t);
      device_lengths = std::make_unique<DeviceMemory>(static_cast<std::int64_t>(bytes), "attention");
      cuda::check(cudaMemcpyAsync(device_lengths->get(), lengths.data(), bytes, cudaMemcpyHostToDevice, on),
                  "attention");
      arguments.key_lengths = static_cast<const std::int64_t*>(device_lengths->get());
      set_strides(arguments.batch, 4, contiguous_view(nullptr, shapes.batch, DType::float32).strides);
    }
    arguments.batches = shapes.batch.size(), arguments.heads = out.shape.from_end(3);
    const TensorView& key = call.views[1];
    arguments.heads_per_group = arguments.heads / (key.rank() == 2 ? 1 : key.shape.from_end(3));
    arguments.queries = out.shape.from_end(2), arguments.keys = keys;
    arguments.head_size = static_cast<int>(size), arguments.value_size = static_cast<int>(value_size);
    arguments.causal = causal;
    arguments.scale = static_cast<float>(scale.value_or(1.0 / std::sqrt(static_cast<double>(size)))) * cuda::log2_e;
    cuda::launch_attention(arguments, call.dtype, on);
  });
}

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace

void register_operations(py::module_& module) {
  module.def("device_count", &device_count);
  module.def("matmul", &bound_matmul, py::arg("a"), py::arg("b"), py::arg("stream"));
  module.def("softmax", &bound_softmax, py::arg("x"), py::arg("axis"), py::arg("stream"));
  module.def("attention", &bound_attention, py::arg("query"), py::arg("key"), py::arg("value"), py::arg("causal"),
             py::arg("key_lengths"), py::arg("scale"), py::arg("stream"));
}

}  // namespace attnlib::bindings
