// fork in a Python without the GIL. pybind11's tables of types and instances have mutexes there: one that another
// thread holds at the fork would stay locked in the child, which has no such thread. So they are all taken before, as
// the tables themselves are to be whole. With the GIL nobody else is in them.
#include "register.hpp"

#ifdef Py_GIL_DISABLED

#include <pybind11/detail/internals.h>

#include <cstddef>
#include <utility>

namespace attnlib::bindings {

namespace py = pybind11;

namespace {

template <class Action>
void for_each_mutex(Action action) {
  py::detail::internals& internals = py::detail::get_internals();
  action(internals.mutex);
  action(internals.exception_translator_mutex);
  for (std::size_t shard = 0; shard <= internals.instance_shards_mask; ++shard)
    action(internals.instance_shards[shard].mutex);
}

PyObject* lock_tables(PyObject*, PyObject*) {
  for_each_mutex([](py::detail::pymutex& mutex) { mutex.lock(); });
  Py_RETURN_NONE;
}
PyObject* unlock_tables(PyObject*, PyObject*) {
  for_each_mutex([](py::detail::pymutex& mutex) { mutex.unlock(); });
  Py_RETURN_NONE;
}

}  // namespace

void register_fork() {
  static bool registered = false;  // a module may be imported again, and the mutexes cannot be taken twice
  if (std::exchange(registered, true)) return;
  // Not functions of pybind11's own, which might look into the tables. Python calls them before it stops its threads;
  // pthread_atfork's would come later.
  static PyMethodDef lock{"lock_tables", &lock_tables, METH_NOARGS, nullptr};
  static PyMethodDef unlock{"unlock_tables", &unlock_tables, METH_NOARGS, nullptr};
  const auto function = [](PyMethodDef& method) {
    return py::reinterpret_steal<py::object>(PyCFunction_New(&method, nullptr));
  };
  using namespace py::literals;
  py::module_::import("os").attr("register_at_fork")(
      "before"_a = function(lock), "after_in_parent"_a = function(unlock), "after_in_child"_a = function(unlock));
}

}  // namespace attnlib::bindings

#else

void attnlib::bindings::register_fork() {}

#endif
