#include "dlpack.hpp"

#include <pybind11/pybind11.h>

#include <memory>

#include "register.hpp"

namespace attnlib::bindings {

namespace py = pybind11;

namespace {

bool is_of(const dlpack::Tensor& tensor, int code) {
  return tensor.dtype.code == code && tensor.dtype.bits == 16 && tensor.dtype.lanes == 1;
}

// Takes the tensor out of its capsule, as any consumer does, and puts one of the same memory into another.
template <class Managed>
py::object relabelled(const py::object& capsule, int from, int to) {
  auto* const given = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), Managed::name));
  if (!is_of(given->tensor, from)) return capsule;
  auto made = std::make_unique<Managed>(*given);
  made->tensor.dtype.code = static_cast<std::uint8_t>(to);
  made->context = given;
  made->deleter = [](Managed* self) {
    auto* const original = static_cast<Managed*>(self->context);
    if (original->deleter != nullptr) original->deleter(original);
    delete self;
  };
  const auto drop_unused = [](PyObject* unused) {
    if (PyCapsule_IsValid(unused, Managed::name) == 0) return;  // it was consumed, and its consumer drops it
    auto* const managed = static_cast<Managed*>(PyCapsule_GetPointer(unused, Managed::name));
    managed->deleter(managed);
  };
  PyObject* const result = PyCapsule_New(made.get(), Managed::name, drop_unused);
  if (result == nullptr) throw py::error_already_set();
  PyCapsule_SetName(capsule.ptr(), Managed::used_name);
  made.release();
  return py::reinterpret_steal<py::object>(result);
}

}  // namespace

// NumPy shares memory through DLPack, but knows no bfloat16: attnlib/dlpack.py has it read and write uint16 instead.
void register_dlpack(py::module_& module) {
  module.def(
      "relabel_dlpack",
      [](const py::object& capsule, int from, int to) {
        using dlpack::ManagedTensor, dlpack::ManagedTensorVersioned;
        if (PyCapsule_IsValid(capsule.ptr(), ManagedTensor::name) != 0)
          return relabelled<ManagedTensor>(capsule, from, to);
        if (PyCapsule_IsValid(capsule.ptr(), ManagedTensorVersioned::name) == 0) return capsule;
        // What a version to come lays out otherwise is left to NumPy, which knows it or refuses it.
        const void* const managed = PyCapsule_GetPointer(capsule.ptr(), ManagedTensorVersioned::name);
        if (static_cast<const ManagedTensorVersioned*>(managed)->major != 1) return capsule;
        return relabelled<ManagedTensorVersioned>(capsule, from, to);
      },
      py::arg("capsule"), py::arg("from_code"), py::arg("to_code"));
}

}  // namespace attnlib::bindings
