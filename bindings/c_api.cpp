#include "attnlib/c_api.h"

#include <pybind11/pybind11.h>

#include <new>
#include <stdexcept>
#include <string>

#include "attnlib/attention.hpp"
#include "attnlib/matmul.hpp"
#include "attnlib/softmax.hpp"
#include "register.hpp"
#include "runtime/float_environment.hpp"

namespace attnlib::bindings {
namespace {

TensorView view_of(int dtype, const void* data, const Shape& shape, const Shape& strides) {
  if (dtype != ATTNLIB_FLOAT32 && dtype != ATTNLIB_FLOAT64) throw std::invalid_argument("dtype");
  for (const std::int64_t extent : shape)
    if (extent < 0) throw std::invalid_argument("shape");
  TensorView view;
  view.dtype = dtype == ATTNLIB_FLOAT64 ? DType::float64 : DType::float32;
  view.data = const_cast<void*>(data);
  view.shape = shape;
  view.strides = strides;
  return view;
}

template <class Operation>
int status_of(Operation&& operation) noexcept {
  try {
    const FloatEnvironment environment;
    operation();
    return ATTNLIB_OK;
  } catch (const std::bad_alloc&) {
    return ATTNLIB_NO_MEMORY;
  } catch (const std::exception&) {
    return ATTNLIB_BAD_VALUE;
  }
}

int c_matmul(const attnlib_matmul_arguments* m) {
  return status_of([&] {
    matmul(view_of(m->dtype, m->a, {m->rows, m->depth}, {m->a_row_stride, 1}),
           view_of(m->dtype, m->b, {m->depth, m->columns}, {m->b_row_stride, m->b_column_stride}),
           view_of(m->dtype, m->out, {m->rows, m->columns}, {m->out_row_stride, 1}));
  });
}

int c_softmax(const attnlib_softmax_arguments* s) {
  return status_of([&] {
    softmax(view_of(s->dtype, s->x, {s->rows, s->columns}, {s->x_row_stride, 1}), -1, nullptr,
            view_of(s->dtype, s->out, {s->rows, s->columns}, {s->out_row_stride, 1}));
  });
}

int c_attention(const attnlib_attention_arguments* a) {
  return status_of([&] {
    const auto four_axes = [&](const void* data, std::int64_t heads, std::int64_t length, std::int64_t size,
                               const int64_t* strides) {
      return view_of(a->dtype, data, {a->batch, heads, length, size}, {strides[0], strides[1], strides[2], 1});
    };
    AttentionOptions options;
    options.causal = a->causal != 0;
    if (a->scale != 0.0) options.scale = a->scale;
    attention(four_axes(a->query, a->heads, a->queries, a->head_size, a->query_strides),
              four_axes(a->key, a->groups, a->keys, a->head_size, a->key_strides),
              four_axes(a->value, a->groups, a->keys, a->value_size, a->value_strides), options,
              {four_axes(a->out, a->heads, a->queries, a->value_size, a->out_strides)});
  });
}

const attnlib_c_api table = {ATTNLIB_C_API_VERSION, &c_matmul, &c_softmax, &c_attention};

}  // namespace

void register_c_api(pybind11::module_& module) {
  module.attr("_c_api") = pybind11::capsule(static_cast<const void*>(&table), ATTNLIB_C_API_CAPSULE);
}

}  // namespace attnlib::bindings
