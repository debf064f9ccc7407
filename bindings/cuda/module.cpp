#include "cuda/device_array.hpp"
#include "ndarray.hpp"

PYBIND11_MODULE(_cuda, module, pybind11::mod_gil_not_used()) {
  using namespace attnlib::bindings;
  module.doc() = "The CUDA kernels of attnlib. Its functions are documented and typed in attnlib.cuda.";
  register_dtypes();
  register_device_array(module);
  register_operations(module);
}
