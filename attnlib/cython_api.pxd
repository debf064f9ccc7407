# GIL-free kernels for Cython: `from attnlib.cython_api cimport matmul_float, ...`. See cython_api.pyx.
from libc.stdint cimport int64_t


# What every function returns. After STATUS_BAD_VALUE (shapes that do not fit) nothing was written.
cdef enum Status:
    STATUS_OK = 0
    STATUS_BAD_VALUE = 1
    STATUS_NO_MEMORY = 2


cdef int matmul_float(
    int64_t rows, int64_t columns, int64_t depth,
    const float* a, int64_t a_row_stride,
    const float* b, int64_t b_row_stride, int64_t b_column_stride,
    float* out, int64_t out_row_stride,
) noexcept nogil

cdef int matmul_double(
    int64_t rows, int64_t columns, int64_t depth,
    const double* a, int64_t a_row_stride,
    const double* b, int64_t b_row_stride, int64_t b_column_stride,
    double* out, int64_t out_row_stride,
) noexcept nogil

cdef int softmax_float(
    int64_t rows, int64_t columns, const float* x, int64_t x_row_stride, float* out, int64_t out_row_stride
) noexcept nogil

cdef int softmax_double(
    int64_t rows, int64_t columns, const double* x, int64_t x_row_stride, double* out, int64_t out_row_stride
) noexcept nogil

cdef int attention_float(
    int64_t batch, int64_t heads, int64_t groups, int64_t queries, int64_t keys,
    int64_t head_size, int64_t value_size,
    const float* query, const int64_t* query_strides,
    const float* key, const int64_t* key_strides,
    const float* value, const int64_t* value_strides,
    float* out, const int64_t* out_strides,
    bint causal, double scale,
) noexcept nogil

cdef int attention_double(
    int64_t batch, int64_t heads, int64_t groups, int64_t queries, int64_t keys,
    int64_t head_size, int64_t value_size,
    const double* query, const int64_t* query_strides,
    const double* key, const int64_t* key_strides,
    const double* value, const int64_t* value_strides,
    double* out, const int64_t* out_strides,
    bint causal, double scale,
) noexcept nogil
