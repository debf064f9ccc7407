#include "ndarray.hpp"

#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <utility>

#include "overlap.hpp"
#include "runtime/result_memory.hpp"

namespace attnlib::bindings {
namespace {

int bfloat16_number = -1;

std::optional<DType> float_dtype(const py::dtype& dtype) {
  switch (dtype.num()) {
    case py::detail::npy_api::NPY_FLOAT_:
      return DType::float32;
    case py::detail::npy_api::NPY_DOUBLE_:
      return DType::float64;
    case 23:  // NPY_HALF
      return DType::float16;
    default:
      return dtype.num() == bfloat16_number ? std::optional(DType::bfloat16) : std::nullopt;
  }
}

std::string prefix(const char* operation, const char* argument) { return std::string(operation) + ": " + argument; }

bool is_plain(const py::object& object) { return Py_TYPE(object.ptr()) == py::detail::npy_api::get().PyArray_Type_; }

bool is_masked(const py::object& object) {
  return !is_plain(object) && py::isinstance(object, py::module_::import("numpy").attr("ma").attr("MaskedArray"));
}

// Any array-like as a plain ndarray.
py::array as_ndarray(const py::object& object, const char* operation, const char* argument) {
  if (is_plain(object)) return py::reinterpret_borrow<py::array>(object);
  if (is_masked(object))
    throw py::type_error(prefix(operation, argument) +
                         " is a masked array, whose mask would be lost; pass array.filled(value)");
  if (!py::isinstance<py::array>(object) && py::hasattr(object, "__dlpack__"))
    return py::module_::import("attnlib.dlpack")
        .attr("read_tensor")(object, prefix(operation, argument))
        .cast<py::array>();
  try {
    return py::module_::import("numpy").attr("asarray")(object).cast<py::array>();
  } catch (py::error_already_set& error) {
    const std::string what =
        prefix(operation, argument) + " is not an array: " + py::str(error.value()).cast<std::string>();
    if (error.matches(PyExc_ValueError)) throw py::value_error(what);
    if (error.matches(PyExc_TypeError)) throw py::type_error(what);
    throw;
  }
}

bool is_aligned_native(const py::array& array) {
  constexpr int aligned_flag = py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & aligned_flag) == 0 || array.dtype().byteorder() == '>') return false;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis)
    if (array.strides(axis) % array.itemsize() != 0) return false;
  return true;
}

template <class View>
void set_geometry(View& view, const py::array& array) {
  view.shape = Shape();
  view.strides = Shape();
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    view.shape.push_back(array.shape(axis));
    view.strides.push_back(array.strides(axis) / array.itemsize());
  }
}

py::array contiguous_copy(const py::array& array, const py::dtype& dtype) {
  return py::module_::import("numpy").attr("array")(array, dtype, py::arg("order") = "C").cast<py::array>();
}

py::array broadcast_to(const py::array& array, const Shape& shape) {
  py::tuple extents(static_cast<std::size_t>(shape.rank()));
  for (int axis = 0; axis < shape.rank(); ++axis) extents[static_cast<std::size_t>(axis)] = shape[axis];
  return py::module_::import("numpy").attr("broadcast_to")(array, extents).cast<py::array>();
}

// The same array with one element of each broadcast axis before `axis`. Strides of empty arrays mean nothing.
py::array without_repetitions(const py::array& array, py::ssize_t axis) {
  if (array.size() == 0) return array;
  py::tuple slices(static_cast<std::size_t>(axis));
  bool repeats = false;
  for (py::ssize_t i = 0; i < axis; ++i) {
    const bool repeated = array.shape(i) > 1 && array.strides(i) == 0;
    slices[static_cast<std::size_t>(i)] = repeated ? py::slice(0, 1, 1) : py::slice(py::none(), py::none(), py::none());
    repeats |= repeated;
  }
  return repeats ? array[slices].cast<py::array>() : array;
}

// What the kernels can name the axes of.
void check_rank(const py::array& array, const char* operation, const char* argument) {
  if (array.ndim() > max_rank)
    throw std::invalid_argument(prefix(operation, argument) + " must have at most " + std::to_string(max_rank) +
                                " axes, got shape " + py::str(array.attr("shape")).cast<std::string>());
}

TensorView view_of(const py::array& array, DType dtype) {
  TensorView view;
  set_geometry(view, array);
  view.data = const_cast<void*>(array.data());
  view.dtype = dtype;
  return view;
}

// An array that is not filled yet, contiguous.
py::array new_contiguous_array(const py::dtype& dtype, const Shape& shape) {
  const std::vector<py::ssize_t> extents(shape.begin(), shape.end());
  auto bytes = static_cast<std::size_t>(dtype.itemsize());
  bool countable = true;
  for (const py::ssize_t extent : extents)
    countable = !__builtin_mul_overflow(bytes, static_cast<std::size_t>(extent), &bytes) && countable;
  // What cannot be counted, NumPy refuses.
  if (!countable || bytes < least_result_bytes) return py::array(dtype, extents);
  auto memory = std::make_unique<ResultMemory>(bytes);
  std::byte* const data = memory->data();
  const py::capsule owner(memory.release(), [](void* pointer) { delete static_cast<ResultMemory*>(pointer); });
  return py::array(dtype, extents, data, owner);
}

// The same with its axes in this order in memory.
py::array new_array(const py::dtype& dtype, const Shape& shape, const AxisOrder& order) {
  if (order.empty()) return new_contiguous_array(dtype, shape);
  Shape in_memory;
  py::tuple places(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    in_memory.push_back(shape[order[i]]);
    places[static_cast<std::size_t>(order[i])] = i;
  }
  return new_contiguous_array(dtype, in_memory).attr("transpose")(places).cast<py::array>();
}

}  // namespace

void register_dtypes() {
  bfloat16_number = py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16")).num();
}

py::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::float32:
      return py::dtype::of<float>();
    case DType::float64:
      return py::dtype::of<double>();
    case DType::float16:
      return py::dtype("float16");
    case DType::bfloat16:
      break;
  }
  return py::dtype(bfloat16_number);
}

DType dtype_from(const py::object& object, const char* operation, const char* names) {
  try {
    if (const auto dtype = float_dtype(py::dtype::from_args(object))) return *dtype;
  } catch (const py::error_already_set&) {  // NumPy knows no such dtype
  }
  throw py::type_error(prefix(operation, "dtype") + " must be " + names + ", got " +
                       py::repr(object).cast<std::string>());
}

FloatArray::FloatArray(const py::object& object, const char* operation, const char* argument) : argument_(argument) {
  if (object.is_none()) return;
  array_ = as_ndarray(object, operation, argument);
  const auto dtype = float_dtype(array_.dtype());
  if (!dtype)
    throw py::type_error(prefix(operation, argument) + " must be float32, float64, float16 or bfloat16, got " +
                         py::str(array_.dtype()).cast<std::string>());
  dtype_ = *dtype;
  weak_ = PyFloat_CheckExact(object.ptr());
  check_rank(array_, operation, argument);
  if (is_aligned_native(array_))
    refresh_view();
  else
    copy(dtype_, "copied: it is not aligned, or of the other byte order", array_.ndim());
}

FloatArray required_array(const py::object& object, const char* operation, const char* argument) {
  if (object.is_none()) throw py::type_error(prefix(operation, argument) + " must be an array, got None");
  return FloatArray(object, operation, argument);
}

void FloatArray::copy(DType dtype, const char* why, py::ssize_t axis) {
  Shape shape;
  for (py::ssize_t i = 0; i < array_.ndim(); ++i) shape.push_back(array_.shape(i));
  const py::array distinct = without_repetitions(array_, axis);
  array_ = contiguous_copy(distinct, numpy_dtype(dtype));
  if (array_.size() != shape.size()) array_ = bindings::broadcast_to(array_, shape);
  dtype_ = dtype;
  dispatch_record().add_note(argument_, why);
  refresh_view();
}

void FloatArray::refresh_view() { view_ = view_of(array_, dtype_); }

void FloatArray::cast(DType dtype) {
  if (absent() || dtype_ == dtype) return;
  copy(dtype, "copied: it is of another dtype than the result", array_.ndim());
}

py::array FloatArray::copied(DType dtype) const { return contiguous_copy(array_, numpy_dtype(dtype)); }

void FloatArray::broadcast_to(const Shape& shape, const char* operation) {
  if (absent() || view_.shape == shape) return;
  broadcast_strides(view_.shape, view_.strides, shape, prefix(operation, argument_));
  array_ = bindings::broadcast_to(array_, shape);
  refresh_view();
}

void FloatArray::convert(DType dtype) {
  cast(dtype);
  if (absent() || view_.has_contiguous_last_axis()) return;
  copy(dtype, "copied: its last axis is not contiguous", array_.ndim() - 1);
}

void FloatArray::make_contiguous(DType dtype) {
  cast(dtype);
  if (absent() || view_.is_contiguous()) return;
  copy(dtype, "copied: it is not contiguous", 0);
}

DType promote_types(DType a, DType b) {
  if (a == b) return a;
  if (a == DType::float64 || b == DType::float64) return DType::float64;
  return DType::float32;  // float32 with less, or float16 with bfloat16, neither of which holds the other
}

DType promote(std::initializer_list<const FloatArray*> arrays) {
  std::optional<DType> joined, weak;
  for (const FloatArray* array : arrays) {
    if (array->absent()) continue;
    std::optional<DType>& result = array->is_weak() ? weak : joined;
    result = result ? promote_types(*result, array->dtype()) : array->dtype();
  }
  return joined ? *joined : weak.value_or(DType::float32);
}

BoolArray::BoolArray(const py::object& object, const char* operation, const char* argument) {
  if (object.is_none()) return;
  array_ = as_ndarray(object, operation, argument);
  if (array_.dtype().num() != py::detail::npy_api::NPY_BOOL_)
    throw py::type_error(prefix(operation, argument) + " must be bool (True may attend), got " +
                         py::str(array_.dtype()).cast<std::string>());
  check_rank(array_, operation, argument);
  set_geometry(view_, array_);
  view_.data = static_cast<const bool*>(array_.data());
}

std::optional<Integers> integers_from(const py::object& object, const char* operation, const char* argument) {
  if (object.is_none()) return std::nullopt;
  py::array array = as_ndarray(object, operation, argument);
  const char kind = array.dtype().kind();
  // An empty list has no dtype of its own; NumPy calls it float64.
  if (kind != 'i' && kind != 'u' && array.size() != 0)
    throw py::type_error(prefix(operation, argument) + " must be integers, got " +
                         py::str(array.dtype()).cast<std::string>());
  // What is called for every layer of every token must not take the way through Python.
  const bool as_it_is =
      kind == 'i' && array.itemsize() == 8 && is_aligned_native(array) && (array.flags() & py::array::c_style) != 0;
  if (!as_it_is) array = contiguous_copy(array, py::dtype::of<std::int64_t>());
  Integers result;
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) result.shape.push_back(array.shape(axis));
  const auto* values = static_cast<const std::int64_t*>(array.data());
  result.values.assign(values, values + array.size());
  if (kind == 'u' && std::any_of(result.values.begin(), result.values.end(), [](auto value) { return value < 0; }))
    throw std::invalid_argument(prefix(operation, argument) + " must fit into int64");
  return result;
}

std::optional<double> float_from(const py::object& object, const char* operation, const char* argument) {
  if (object.is_none()) return std::nullopt;
  const double value = PyFloat_AsDouble(object.ptr());
  if (value == -1.0 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error(prefix(operation, argument) + " must be a number or None, got " +
                         py::repr(py::type::of(object)).cast<std::string>());
  }
  return value;
}

bool signal_raised(void* state) {
#if defined(__linux__)
  if (syscall(SYS_gettid) != getpid()) return false;  // also right in a child that another thread forked
#endif
  take_gil_back(static_cast<PyThreadState*>(state));
  const FloatEnvironment environment(FloatEnvironment::Kind::standard);
  const bool raised = PyErr_CheckSignals() != 0;
  PyEval_SaveThread();
  return raised;
}

TensorView array_to_change(const py::object& object, const char* operation, const char* argument, DType dtype,
                           std::initializer_list<const FloatArray*> inputs) {
  if (!is_plain(object))
    throw py::type_error(prefix(operation, argument) + " must be a numpy.ndarray, got " +
                         py::str(py::type::of(object).attr("__name__")).cast<std::string>());
  const auto array = py::reinterpret_borrow<py::array>(object);
  if (float_dtype(array.dtype()) != dtype)
    throw py::type_error(prefix(operation, argument) + " must be " + dtype_name(dtype) + " as the inputs are, got " +
                         py::str(array.dtype()).cast<std::string>());
  const TensorView view = view_of(array, dtype);
  const bool readable = view.size() == 0 || (is_aligned_native(array) && view.has_contiguous_last_axis());
  if (!array.writeable() || !readable)
    throw std::invalid_argument(prefix(operation, argument) +
                                " must be writable, aligned, of native byte order and contiguous along its last axis");
  if (may_overlap_itself(view))
    throw std::invalid_argument(prefix(operation, argument) +
                                " must not be broadcast or overlap itself: several of its elements are one, strides "
                                "are " +
                                view.strides.to_string());
  for (const FloatArray* input : inputs)
    if (!input->absent() && may_overlap(view, input->view()))
      throw std::invalid_argument(prefix(operation, argument) + " must share no memory with " + input->argument());
  return view;
}

bool share_memory(const TensorView& a, const py::object& a_array, const TensorView& b, const py::object& b_array) {
  if (!may_overlap(a, b)) return false;
  // Views may lie between each other, as keys and values side by side do. NumPy tells them apart, with a limit to its
  // efforts, beyond which it says yes.
  constexpr int effort = 10000;
  return py::module_::import("numpy").attr("may_share_memory")(a_array, b_array, effort).cast<bool>();
}

Output::Output(const py::object& out, const char* operation, const Shape& shape, DType dtype,
               std::initializer_list<const FloatArray*> inputs, bool in_place, const BoolArray* mask,
               const AxisOrder& order)
    : target_(out) {
  const py::dtype wanted = numpy_dtype(dtype);
  const auto allocate = [&] {
    array_ = new_array(wanted, shape, order);
    view_ = view_of(array_, dtype);
  };
  if (out.is_none()) {
    allocate();
    return;
  }
  if (!py::isinstance<py::array>(out))
    throw py::type_error(prefix(operation, "out") + " must be a numpy.ndarray, got " +
                         py::str(py::type::of(out).attr("__name__")).cast<std::string>());
  if (is_masked(out)) throw py::type_error(prefix(operation, "out") + " must not be a masked array");
  array_ = py::reinterpret_borrow<py::array>(out);
  if (float_dtype(array_.dtype()) != dtype || array_.dtype().byteorder() == '>')
    throw py::type_error(prefix(operation, "out") + " must have the result's dtype " + dtype_name(dtype) + ", got " +
                         py::str(array_.dtype()).cast<std::string>());
  view_ = view_of(array_, dtype);
  if (!(view_.shape == shape))
    throw std::invalid_argument(prefix(operation, "out") + " must have the result's shape " + shape.to_string() +
                                ", got " + view_.shape.to_string());
  if (!array_.writeable()) throw std::invalid_argument(prefix(operation, "out") + " is read-only");
  bool direct = is_aligned_native(array_) && in_order(view_, order).has_contiguous_last_axis();
  for (const FloatArray* input : inputs)
    if (direct && !input->absent() && may_overlap(view_, input->view()))
      direct = in_place && same_window(view_, input->view());
  if (mask != nullptr && !mask->absent() && may_overlap(view_, *mask->optional())) direct = false;
  if (!direct) {
    staged_ = true;
    allocate();
  }
}

py::object Output::finish() {
  if (target_.is_none()) return array_.ndim() == 0 ? py::object(array_[py::tuple()]) : std::move(array_);
  if (staged_) target_[py::ellipsis()] = array_;
  return std::move(target_);
}

}  // namespace attnlib::bindings
