#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "isa/dispatch.hpp"
#include "register.hpp"
#include "runtime/parallel.hpp"

namespace attnlib::bindings {

namespace py = pybind11;

void register_runtime(py::module_& module) {
  const char* forced = std::getenv("ATTNLIB_ISA");
  try {
    select_isa(forced == nullptr ? "" : forced);
  } catch (const std::runtime_error& error) {
    throw py::import_error(error.what());
  }
  module.def("isa", [] { return std::string(kernels().rung); });
  module.def("available_isas", &available_isas);
  module.def("built_isas", &built_isas);
  module.def("get_num_threads", &get_num_threads);
  module.def(
      "set_num_threads",
      [](int count) {
        if (count < 1)
          throw std::invalid_argument("set_num_threads: n must be at least 1, got " + std::to_string(count));
        set_num_threads(count);
      },
      py::arg("n"));
  module.def("build_info", [] {
    py::dict info;
    info["compiler"] = ATTNLIB_COMPILER;
    info["build_type"] = ATTNLIB_BUILD_TYPE;
    info["openmp"] = openmp_version();
    info["cuda"] = false;
    return info;
  });
}

}  // namespace attnlib::bindings
