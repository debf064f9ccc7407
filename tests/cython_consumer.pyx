# cython: language_level=3
# Compiled and run by test_cython_api.py: what a user's GIL-free Cython code looks like.
from libc.stdint cimport int64_t

from attnlib.cython_api cimport attention_double, attention_float, matmul_double, matmul_float, softmax_double, softmax_float

ctypedef fused floating:
    float
    double


def matmul(const floating[:, ::1] a, const floating[:, :] b, floating[:, ::1] out):
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
    return status


def softmax(const floating[:, ::1] x, floating[:, ::1] out):
    cdef int status
    with nogil:
        if floating is float:
            status = softmax_float(x.shape[0], x.shape[1], &x[0, 0], x.shape[1], &out[0, 0], out.shape[1])
        else:
            status = softmax_double(x.shape[0], x.shape[1], &x[0, 0], x.shape[1], &out[0, 0], out.shape[1])
    return status


cdef void fill_strides(int64_t* strides, int64_t heads, int64_t length, int64_t size) noexcept nogil:
    strides[0] = heads * length * size
    strides[1] = length * size
    strides[2] = size


def attention(const floating[:, :, :, ::1] query, const floating[:, :, :, ::1] key,
              const floating[:, :, :, ::1] value, floating[:, :, :, ::1] out, bint causal, double scale):
    cdef int64_t query_strides[3]
    cdef int64_t key_strides[3]
    cdef int64_t value_strides[3]
    cdef int64_t out_strides[3]
    cdef int status
    with nogil:
        fill_strides(query_strides, query.shape[1], query.shape[2], query.shape[3])
        fill_strides(key_strides, key.shape[1], key.shape[2], key.shape[3])
        fill_strides(value_strides, value.shape[1], value.shape[2], value.shape[3])
        fill_strides(out_strides, out.shape[1], out.shape[2], out.shape[3])
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
    return status
