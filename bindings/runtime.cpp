#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "isa/dispatch.hpp"
#include "ndarray.hpp"
#include "register.hpp"
#include "runtime/cgroup.hpp"
#include "runtime/dispatch_record.hpp"
#include "runtime/parallel.hpp"
#include "runtime/result_memory.hpp"
#include "runtime/workspace.hpp"

namespace attnlib::bindings {

namespace py = pybind11;

void register_runtime(py::module_& module) {
  const char* forced = std::getenv("ATTNLIB_ISA");
  try {
    select_isa(forced == nullptr ? "" : forced);
  } catch (const std::runtime_error& error) {
    throw py::import_error(error.what());
  }
  module.def("isa", &isa);
  module.def("available_isas", &available_isas);
  module.def("built_isas", &built_isas);
  module.def("get_num_threads", &get_num_threads);
  module.def(
      "set_num_threads",
      [](const py::object& n) {
        const auto counts = integers_from(n, "set_num_threads", "n");
        constexpr std::int64_t most = 1 << 16;
        if (!counts || counts->shape.rank() != 0)
          throw py::type_error("set_num_threads: n must be an integer, got " + py::repr(n).cast<std::string>());
        if (counts->values[0] < 1 || counts->values[0] > most)
          throw std::invalid_argument("set_num_threads: n must lie between 1 and " + std::to_string(most) + ", got " +
                                      std::to_string(counts->values[0]));
        set_num_threads(static_cast<int>(counts->values[0]));
      },
      py::arg("n"));
  // For the tests: trim() says what the process shrank by, which other memory moves.
  module.def("release_kept_results", &release_kept_results);
  module.def("trim", &trim, py::call_guard<py::gil_scoped_release>());
  // For the tests: the folder that has the files of /proc/self is an argument.
  module.def("cgroup_cpus", &cgroup_cpus, py::arg("process") = "/proc/self");
  module.def("last_dispatch", []() -> py::object {
    const DispatchRecord& record = dispatch_record();
    if (record.operation == nullptr) return py::none();
    const auto text = [](const char* value, const char* fallback) { return py::str(value ? value : fallback); };
    py::list notes;
    for (int i = 0; i < record.notes; ++i) {
      const DispatchRecord::Note& note = record.note[i];
      notes.append(py::str(note.argument ? std::string(note.argument) + " " + note.text : note.text));
    }
    return py::make_tuple(record.operation, kernels().rung, text(record.kernel, record.operation),
                          text(record.plan, "rows"), record.threads, record.workspace_bytes, py::tuple(notes));
  });
  // Where attention changes its plan, for layers that must not let it.
  module.attr("decode_rows") = decode_rows;
  module.attr("decode_least_keys") = decode_least_keys;
  module.attr("decode_chunk") = decode_chunk;
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
