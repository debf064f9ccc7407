// Arrays on a GPU: those that callers bring (through DLPack), and those that results are.
#pragma once

#include <cuda_runtime_api.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "attnlib/tensor_view.hpp"
#include "cuda/error.hpp"

namespace attnlib::bindings {

namespace py = pybind11;

// Makes a device the thread's current one; at the end of the scope the caller's is that again. Memory and events are of
// the current device, and so are the default streams, which are numbers that say nothing of theirs.
class CurrentDevice {
 public:
  CurrentDevice(int device, const char* operation) {
    cuda::check(cudaGetDevice(&before_), operation);
    changed_ = device != before_;
    if (changed_) cuda::check(cudaSetDevice(device), operation);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice() {
    if (changed_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

// Memory of the current device, given back with cudaFree, which waits for what still uses it.
class DeviceMemory {
 public:
  DeviceMemory(std::int64_t bytes, const char* operation) {
    if (bytes > 0) cuda::check(cudaMalloc(&data_, static_cast<std::size_t>(bytes)), operation);
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() {
    if (data_ != nullptr) cudaFree(data_);
  }
  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

// A C-contiguous result on a device; what Python sees is attnlib.cuda.DeviceArray.
struct DeviceArray {
  std::shared_ptr<DeviceMemory> memory;
  TensorView view;
  int device;
  std::intptr_t stream;  // the one its contents are made on

  py::capsule dlpack(const py::object& consumer_stream) const;
  py::array numpy() const;
};

// What a caller brought: memory of device `device`, kept alive by `owner`.
struct DeviceArgument {
  TensorView view;
  int device;
  py::object owner;
};

// Whether DLPack says that `object` lies on a CUDA device.
bool is_on_device(const py::object& object);
// TypeError or ValueError, naming operation and argument, for what cannot be read there.
DeviceArgument device_argument(const py::object& object, std::intptr_t stream, const char* operation,
                               const char* argument);

void register_device_array(py::module_& module);
void register_operations(py::module_& module);

}  // namespace attnlib::bindings
