// The one place where NumPy arrays become tensor views, and the one policy for them:
//
//   an input   is any array-like of a real floating dtype. It is read in place when its memory is native-endian,
//              aligned, of the wanted dtype and contiguous along the last axis (elementwise operations: along any);
//              otherwise it is copied once. Subclasses are read as plain arrays; masked arrays are refused, because
//              their mask would be lost. Tensors of other libraries come through DLPack (attnlib/dlpack.py), which
//              brings bfloat16 along.
//   an output  is allocated, or `out=`: writable and of exactly the result's shape and dtype. If the kernels cannot
//              write to it directly (other layout, or memory shared with an input) they fill an array of their own,
//              which is copied into it at the end.
//
// None of this converts silently what NumPy would not: integers and complex numbers are TypeErrors.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "attnlib/tensor_view.hpp"
#include "axis_order.hpp"
#include "runtime/dispatch_record.hpp"
#include "runtime/float_environment.hpp"
#include "runtime/interruption.hpp"

namespace attnlib::bindings {

namespace py = pybind11;

// Looks up the number that NumPy gave to ml_dtypes.bfloat16; called once, when the module is initialised.
void register_dtypes();

py::dtype numpy_dtype(DType dtype);

// The dtype called `name` (float32, float64, float16, bfloat16), or given as anything np.dtype() understands.
DType dtype_from(const py::object& object, const char* operation,
                 const char* names = "float32, float64, float16 or bfloat16");

// The first thing that a bound operation does: what it decides from here on is recorded under this name.
inline void begin_call(const char* operation) { dispatch_record().begin(operation); }

// A null handle; py::array() would be an empty array.
inline py::array no_array() { return py::reinterpret_steal<py::array>(py::handle()); }

// An input of floating dtype. `absent()` for None, where the argument is optional.
class FloatArray {
 public:
  // TypeError for what is not an array of float32, float64, float16 or bfloat16, beginning with the operation's name.
  FloatArray(const py::object& object, const char* operation, const char* argument);

  bool absent() const { return !array_; }
  DType dtype() const { return dtype_; }
  // A Python float: like NumPy's, its dtype is whatever the arrays have.
  bool is_weak() const { return weak_; }
  // ValueError where NumPy would not broadcast it to `shape`.
  void broadcast_to(const Shape& shape, const char* operation);
  // Casts to `dtype` and makes the last axis contiguous, copying only if it must.
  void convert(DType dtype);
  // Casts to `dtype` and makes the whole array C-contiguous.
  void make_contiguous(DType dtype);
  // Casts to `dtype`, any strides; what is broadcast stays so, since it may be far larger than what it is made of.
  void cast(DType dtype);
  // A new C-contiguous array of the same numbers.
  py::array copied(DType dtype) const;
  const TensorView& view() const { return view_; }
  // The view, or nullptr for an absent argument.
  const TensorView* optional() const { return absent() ? nullptr : &view_; }
  const char* argument() const { return argument_; }

 private:
  // Copies each element once: of the axes before `axis`, broadcast ones are not expanded.
  void copy(DType dtype, const char* why, py::ssize_t axis);
  void refresh_view();

  py::array array_ = no_array();
  TensorView view_;
  DType dtype_ = DType::float32;
  const char* argument_;
  bool weak_ = false;
};

DType promote_types(DType a, DType b);
// The same for an argument that has no default: TypeError for None too.
FloatArray required_array(const py::object& object, const char* operation, const char* argument);

// The dtype that NumPy promotes these inputs to; absent ones do not count, nor do weak ones beside others.
DType promote(std::initializer_list<const FloatArray*> arrays);

// An optional input of dtype bool.
class BoolArray {
 public:
  BoolArray(const py::object& object, const char* operation, const char* argument);
  bool absent() const { return !array_; }
  const BoolView* optional() const { return array_ ? &view_ : nullptr; }

 private:
  py::array array_ = no_array();
  BoolView view_;
};

// Integers (an int, or an array-like of any integer dtype) with their shape.
struct Integers {
  Shape shape;
  std::vector<std::int64_t> values;  // row-major
};
std::optional<Integers> integers_from(const py::object& object, const char* operation, const char* argument);

// A real number, or nothing for None; TypeError for anything else.
std::optional<double> float_from(const py::object& object, const char* operation, const char* argument);

// Takes the GIL back. A daemon thread that wants it while the interpreter exits is ended by Python there, with
// pthread_exit, which unwinds the stack: destructors on it would touch Python objects without the GIL. It is made to
// wait for the end of the process instead, as Python itself does from 3.14 on.
inline void take_gil_back(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {  // by name, abi::__forced_unwind, GCC binds a reference to no object, which UBSan reports
    for (;;) pause();
  }
}

// Whether a signal has come whose Python handler raised an exception, which is set then: KeyboardInterrupt after
// Ctrl-C. Asked by a long operation of the main thread, which is where Python runs such handlers; `state` is its thread
// state.
bool signal_raised(void* state);

// Runs `operation` without the GIL, in the floating-point environment of the kernels. Ctrl-C ends it between two tasks.
template <class Operation>
void without_gil(Operation&& operation) {
  PyThreadState* const state = PyEval_SaveThread();
  try {
    const FloatEnvironment environment;
    const Interruptible interruptible(&signal_raised, state);
    operation();
  } catch (const Interrupted&) {
    take_gil_back(state);
    throw py::error_already_set();
  } catch (...) {
    take_gil_back(state);
    throw;
  }
  take_gil_back(state);
}

// An array that an operation reads and changes where it is: writable, native, contiguous along the last axis, of
// exactly `dtype`, no two of its elements one, and apart from the inputs.
TensorView array_to_change(const py::object& object, const char* operation, const char* argument, DType dtype,
                           std::initializer_list<const FloatArray*> inputs);

// Whether two of those (each a view, and the array that it is of) have an element in common.
bool share_memory(const TensorView& a, const py::object& a_array, const TensorView& b, const py::object& b_array);

class Output {
 public:
  // `in_place` allows `out` to be exactly one of the inputs (same memory, same strides): for kernels that read an
  // element, or a whole row, before they write it. `mask` is an input, too. `order` is that of the axes in memory.
  Output(const py::object& out, const char* operation, const Shape& shape, DType dtype,
         std::initializer_list<const FloatArray*> inputs, bool in_place = false, const BoolArray* mask = nullptr,
         const AxisOrder& order = {});

  const TensorView& view() const { return view_; }
  // What the caller gets: `out` itself, or the new array (a NumPy scalar if it has no axes).
  py::object finish();

 private:
  py::object target_;             // the caller's out=, or none
  py::array array_ = no_array();  // what the kernels fill
  bool staged_ = false;
  TensorView view_;
};

}  // namespace attnlib::bindings
