# cython: language_level=3
# Compiled and run by test_cython_api.py: what a user's GIL-free Cython code looks like.
from libc.stdint cimport int64_t

from attnlib.cython_api cimport STATUS_BAD_VALUE, STATUS_NO_MEMORY, STATUS_OK
from attnlib.cython_api cimport attention_double, attention_float, matmul_double, matmul_float, softmax_double, softmax_float

ctypedef fused floating:
    float
    double


class BadValue(Exception):
    pass


cdef int check(int status) except -1:
    if status == STATUS_BAD_VALUE:
        raise BadValue
    if status == STATUS_NO_MEMORY:
        raise MemoryError
    return status


# Rows are contiguous (the last stride is 1), other strides may be any: only b's columns need not be.
def matmul(const floating[:, :] a, const floating[:, :] b, floating[:, :] out):
    cdef int64_t size = sizeof(floating)
    cdef int status
    with nogil:
        if floating is float:
            status = matmul_float(a.shape[0], b.shape[1], a.shape[1], &a[0, 0], a.strides[0] // size,
                                  &b[0, 0], b.strides[0] // size, b.strides[1] // size,
                                  &out[0, 0], out.strides[0] // size)
        else:
            status = matmul_double(a.shape[0], b.shape[1], a.shape[1], &a[0, 0], a.strides[0] // size,
                                   &b[0, 0], b.strides[0] // size, b.strides[1] // size,
                                   &out[0, 0], out.strides[0] // size)
    check(status)


def softmax(const floating[:, :] x, floating[:, :] out):
    cdef int64_t size = sizeof(floating)
    cdef int status
    with nogil:
        if floating is float:
            status = softmax_float(x.shape[0], x.shape[1], &x[0, 0], x.strides[0] // size,
                                   &out[0, 0], out.strides[0] // size)
        else:
            status = softmax_double(x.shape[0], x.shape[1], &x[0, 0], x.strides[0] // size,
                                    &out[0, 0], out.strides[0] // size)
    check(status)


cdef void in_elements(int64_t* strides, const Py_ssize_t* bytes, int64_t size) noexcept nogil:
    cdef int axis
    for axis in range(3):
        strides[axis] = bytes[axis] // size


def attention(const floating[:, :, :, :] query, const floating[:, :, :, :] key,
              const floating[:, :, :, :] value, floating[:, :, :, :] out, bint causal, double scale):
    cdef int64_t query_strides[3]
    cdef int64_t key_strides[3]
    cdef int64_t value_strides[3]
    cdef int64_t out_strides[3]
    cdef int status
    with nogil:
        in_elements(query_strides, query.strides, sizeof(floating))
        in_elements(key_strides, key.strides, sizeof(floating))
        in_elements(value_strides, value.strides, sizeof(floating))
        in_elements(out_strides, out.strides, sizeof(floating))
        if floating is float:
            status = attention_float(query.shape[0], query.shape[1], key.shape[1], query.shape[2], key.shape[2],
                                     query.shape[3], value.shape[3], &query[0, 0, 0, 0], query_strides,
                                     &key[0, 0, 0, 0], key_strides, &value[0, 0, 0, 0], value_strides,
                                     &out[0, 0, 0, 0], out_strides, causal, scale)
        else:
            status = attention_double(query.shape[0], query.shape[1], key.shape[1], query.shape[2], key.shape[2],
                                      query.shape[3], value.shape[3], &query[0, 0, 0, 0], query_strides,
                                      &key[0, 0, 0, 0], key_strides, &value[0, 0, 0, 0], value_strides,
                                      &out[0, 0, 0, 0], out_strides, causal, scale)
    check(status)
