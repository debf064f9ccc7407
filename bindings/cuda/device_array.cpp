#include "cuda/device_array.hpp"

#include <pybind11/numpy.h>

#include <stdexcept>
#include <utility>

#include "dlpack.hpp"
#include "ndarray.hpp"

namespace attnlib::bindings {
namespace {

// Keeps what a DLPack capsule of ours points to alive until its consumer is done.
struct Export {
  dlpack::ManagedTensor managed{};
  Shape shape, strides;
  std::shared_ptr<DeviceMemory> memory;
};

dlpack::DataType dlpack_dtype(DType dtype) {
  const auto bits = static_cast<std::uint8_t>(8 * dtype_size(dtype));
  return {dtype == DType::bfloat16 ? dlpack::bfloat : dlpack::floating, bits, 1};
}

void drop_unused(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, "dltensor") == 0) return;  // it was consumed, and its consumer drops it
  auto* const managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
  if (managed->deleter != nullptr) managed->deleter(managed);
}

cudaStream_t stream_of(std::intptr_t number) { return reinterpret_cast<cudaStream_t>(number); }

// Makes `consumer` wait for what `producer` was given so far; both are streams of `device`.
void order(int device, std::intptr_t producer, std::intptr_t consumer) {
  if (producer == consumer) return;
  const CurrentDevice current(device, "DeviceArray.__dlpack__");
  cudaEvent_t event;
  cuda::check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "DeviceArray.__dlpack__");
  cudaError_t error = cudaEventRecord(event, stream_of(producer));
  if (error == cudaSuccess) error = cudaStreamWaitEvent(stream_of(consumer), event, 0);
  cudaEventDestroy(event);
  cuda::check(error, "DeviceArray.__dlpack__");
}

}  // namespace

py::capsule DeviceArray::dlpack(const py::object& consumer_stream) const {
  // None: the legacy default stream; -1: the consumer asks for no order.
  const auto consumer = consumer_stream.is_none() ? std::intptr_t{1} : consumer_stream.cast<std::intptr_t>();
  if (consumer != -1) order(device, stream, consumer == 0 ? 1 : consumer);
  auto exported = std::make_unique<Export>();
  exported->shape = view.shape;
  exported->strides = view.strides;
  exported->memory = memory;
  exported->managed.tensor = {view.data,
                              {dlpack::cuda, device},
                              view.rank(),
                              dlpack_dtype(view.dtype),
                              const_cast<std::int64_t*>(exported->shape.begin()),
                              const_cast<std::int64_t*>(exported->strides.begin()),
                              0};
  exported->managed.context = exported.get();
  exported->managed.deleter = [](dlpack::ManagedTensor* self) { delete static_cast<Export*>(self->context); };
  PyObject* const capsule = PyCapsule_New(&exported->managed, "dltensor", &drop_unused);
  if (capsule == nullptr) throw py::error_already_set();
  exported.release();
  return py::reinterpret_steal<py::capsule>(capsule);
}

py::array DeviceArray::numpy() const {
  py::array array(numpy_dtype(view.dtype), std::vector<py::ssize_t>(view.shape.begin(), view.shape.end()));
  if (view.size() == 0) return array;
  void* const target = array.mutable_data();
  without_gil([&] {
    const CurrentDevice current(device, "DeviceArray.numpy");
    cuda::check(cudaMemcpyAsync(target, view.data, static_cast<std::size_t>(view.size() * dtype_size(view.dtype)),
                                cudaMemcpyDeviceToHost, stream_of(stream)),
                "DeviceArray.numpy");
    cuda::check(cudaStreamSynchronize(stream_of(stream)), "DeviceArray.numpy");
  });
  return array;
}

bool is_on_device(const py::object& object) {
  if (!py::hasattr(object, "__dlpack_device__")) return false;
  const auto type = object.attr("__dlpack_device__")().cast<py::tuple>()[0].cast<int>();
  return type == dlpack::cuda || type == dlpack::cuda_managed;
}

DeviceArgument device_argument(const py::object& object, std::intptr_t stream, const char* operation,
                               const char* argument) {
  const std::string name = std::string(operation) + ": " + argument;
  py::object capsule = object.attr("__dlpack__")(py::arg("stream") = stream);
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor") == 0)
    throw py::type_error(name + " gave no DLPack capsule, got " + py::repr(capsule).cast<std::string>());
  const auto* const managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  const dlpack::Tensor& tensor = managed->tensor;
  DeviceArgument result{{}, tensor.device.id, py::make_tuple(object, capsule)};
  const auto [code, bits, lanes] = tensor.dtype;
  if (lanes == 1 && code == dlpack::floating && bits == 32) {
    result.view.dtype = DType::float32;
  } else if (lanes == 1 && code == dlpack::floating && bits == 16) {
    result.view.dtype = DType::float16;
  } else if (lanes == 1 && code == dlpack::bfloat && bits == 16) {
    result.view.dtype = DType::bfloat16;
  } else {
    throw py::type_error(name + " must be float32, float16 or bfloat16, got DLPack type (" + std::to_string(code) +
                         ", " + std::to_string(bits) + " bits)");
  }
  if (tensor.rank > max_rank) throw std::invalid_argument(name + " has more than 16 axes");
  for (int axis = 0; axis < tensor.rank; ++axis) result.view.shape.push_back(tensor.shape[axis]);
  void* const data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  if (tensor.strides == nullptr) {
    result.view = contiguous_view(data, result.view.shape, result.view.dtype);
  } else {
    result.view.data = data;
    for (int axis = 0; axis < tensor.rank; ++axis) result.view.strides.push_back(tensor.strides[axis]);
  }
  return result;
}

void register_device_array(py::module_& module) {
  py::class_<DeviceArray>(module, "DeviceArray", "A result on a GPU; give it to any library that reads DLPack.")
      .def(
          "__dlpack__",
          [](const DeviceArray& self, const py::object& stream, const py::kwargs&) { return self.dlpack(stream); },
          py::arg("stream") = py::none())
      .def("__dlpack_device__",
           [](const DeviceArray& self) { return py::make_tuple(static_cast<int>(dlpack::cuda), self.device); })
      .def("numpy", &DeviceArray::numpy, "A copy on the host, made when the result is there.")
      .def_property_readonly("shape",
                             [](const DeviceArray& self) {
                               py::tuple shape(self.view.rank());
                               for (int axis = 0; axis < self.view.rank(); ++axis)
                                 shape[static_cast<std::size_t>(axis)] = self.view.shape[axis];
                               return shape;
                             })
      .def_property_readonly("dtype", [](const DeviceArray& self) { return numpy_dtype(self.view.dtype); })
      .def_readonly("device", &DeviceArray::device)
      .def_readonly("stream", &DeviceArray::stream);
}

}  // namespace attnlib::bindings
