# cython: language_level=3
"""GIL-free kernels for Cython code: matrix product, softmax and attention over typed pointers.

Strides count elements; the last axis of every array is contiguous, except that ``b`` of a product has a stride for
each axis. Every function returns ``STATUS_OK``, ``STATUS_BAD_VALUE`` for shapes that do not fit (nothing is written), or
``STATUS_NO_MEMORY``. These names and the declarations are in ``cython_api.pxd``; the meaning of the arguments is in
``attnlib/c_api.h``.

The kernels are those of `attnlib._core`, found through the capsule ``attnlib._core._c_api`` when this module is
imported, as SciPy's ``cython_blas`` finds BLAS: a consumer links to nothing.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t

from attnlib import _core


cdef extern from "attnlib/c_api.h" nogil:
    enum:
        ATTNLIB_C_API_VERSION
        ATTNLIB_FLOAT32
        ATTNLIB_FLOAT64
        ATTNLIB_OK
        ATTNLIB_BAD_VALUE
        ATTNLIB_NO_MEMORY
    const char* ATTNLIB_C_API_CAPSULE

    ctypedef struct attnlib_matmul_arguments:
        int dtype
        int64_t rows, columns, depth
        const void* a
        int64_t a_row_stride
        const void* b
        int64_t b_row_stride, b_column_stride
        void* out
        int64_t out_row_stride

    ctypedef struct attnlib_softmax_arguments:
        int dtype
        int64_t rows, columns
        const void* x
        int64_t x_row_stride
        void* out
        int64_t out_row_stride

    ctypedef struct attnlib_attention_arguments:
        int dtype
        int64_t batch, heads, groups, queries, keys, head_size, value_size
        const void* query
        int64_t query_strides[3]
        const void* key
        int64_t key_strides[3]
        const void* value
        int64_t value_strides[3]
        void* out
        int64_t out_strides[3]
        int causal
        double scale

    ctypedef struct attnlib_c_api:
        int version
        int (*matmul)(const attnlib_matmul_arguments*) noexcept nogil
        int (*softmax)(const attnlib_softmax_arguments*) noexcept nogil
        int (*attention)(const attnlib_attention_arguments*) noexcept nogil


cdef const attnlib_c_api* api = <const attnlib_c_api*>PyCapsule_GetPointer(_core._c_api, ATTNLIB_C_API_CAPSULE)
if api.version != ATTNLIB_C_API_VERSION:
    raise ImportError(f"attnlib.cython_api: version {ATTNLIB_C_API_VERSION} of the C interface is needed, "
                      f"attnlib._core has {api.version}")
# The .pxd cannot take them from the header, which its users do not have.
assert (STATUS_OK, STATUS_BAD_VALUE, STATUS_NO_MEMORY) == (ATTNLIB_OK, ATTNLIB_BAD_VALUE, ATTNLIB_NO_MEMORY)


cdef int _matmul(
    int dtype, int64_t rows, int64_t columns, int64_t depth, const void* a, int64_t a_row_stride,
    const void* b, int64_t b_row_stride, int64_t b_column_stride, void* out, int64_t out_row_stride,
) noexcept nogil:
    cdef attnlib_matmul_arguments arguments
    arguments.dtype = dtype
    arguments.rows = rows
    arguments.columns = columns
    arguments.depth = depth
    arguments.a = a
    arguments.a_row_stride = a_row_stride
    arguments.b = b
    arguments.b_row_stride = b_row_stride
    arguments.b_column_stride = b_column_stride
    arguments.out = out
    arguments.out_row_stride = out_row_stride
    return api.matmul(&arguments)


cdef int matmul_float(
    int64_t rows, int64_t columns, int64_t depth,
    const float* a, int64_t a_row_stride,
    const float* b, int64_t b_row_stride, int64_t b_column_stride,
    float* out, int64_t out_row_stride,
) noexcept nogil:
    return _matmul(ATTNLIB_FLOAT32, rows, columns, depth, a, a_row_stride, b, b_row_stride, b_column_stride,
                   out, out_row_stride)


cdef int matmul_double(
    int64_t rows, int64_t columns, int64_t depth,
    const double* a, int64_t a_row_stride,
    const double* b, int64_t b_row_stride, int64_t b_column_stride,
    double* out, int64_t out_row_stride,
) noexcept nogil:
    return _matmul(ATTNLIB_FLOAT64, rows, columns, depth, a, a_row_stride, b, b_row_stride, b_column_stride,
                   out, out_row_stride)


cdef int _softmax(
    int dtype, int64_t rows, int64_t columns, const void* x, int64_t x_row_stride, void* out, int64_t out_row_stride
) noexcept nogil:
    cdef attnlib_softmax_arguments arguments
    arguments.dtype = dtype
    arguments.rows = rows
    arguments.columns = columns
    arguments.x = x
    arguments.x_row_stride = x_row_stride
    arguments.out = out
    arguments.out_row_stride = out_row_stride
    return api.softmax(&arguments)


cdef int softmax_float(
    int64_t rows, int64_t columns, const float* x, int64_t x_row_stride, float* out, int64_t out_row_stride
) noexcept nogil:
    return _softmax(ATTNLIB_FLOAT32, rows, columns, x, x_row_stride, out, out_row_stride)


cdef int softmax_double(
    int64_t rows, int64_t columns, const double* x, int64_t x_row_stride, double* out, int64_t out_row_stride
) noexcept nogil:
    return _softmax(ATTNLIB_FLOAT64, rows, columns, x, x_row_stride, out, out_row_stride)


cdef int _attention(
    int dtype, int64_t batch, int64_t heads, int64_t groups, int64_t queries, int64_t keys,
    int64_t head_size, int64_t value_size,
    const void* query, const int64_t* query_strides,
    const void* key, const int64_t* key_strides,
    const void* value, const int64_t* value_strides,
    void* out, const int64_t* out_strides,
    bint causal, double scale,
) noexcept nogil:
    cdef attnlib_attention_arguments arguments
    cdef int axis
    arguments.dtype = dtype
    arguments.batch = batch
    arguments.heads = heads
    arguments.groups = groups
    arguments.queries = queries
    arguments.keys = keys
    arguments.head_size = head_size
    arguments.value_size = value_size
    arguments.query = query
    arguments.key = key
    arguments.value = value
    arguments.out = out
    for axis in range(3):
        arguments.query_strides[axis] = query_strides[axis]
        arguments.key_strides[axis] = key_strides[axis]
        arguments.value_strides[axis] = value_strides[axis]
        arguments.out_strides[axis] = out_strides[axis]
    arguments.causal = causal
    arguments.scale = scale
    return api.attention(&arguments)


cdef int attention_float(
    int64_t batch, int64_t heads, int64_t groups, int64_t queries, int64_t keys,
    int64_t head_size, int64_t value_size,
    const float* query, const int64_t* query_strides,
    const float* key, const int64_t* key_strides,
    const float* value, const int64_t* value_strides,
    float* out, const int64_t* out_strides,
    bint causal, double scale,
) noexcept nogil:
    return _attention(ATTNLIB_FLOAT32, batch, heads, groups, queries, keys, head_size, value_size,
                      query, query_strides, key, key_strides, value, value_strides, out, out_strides, causal, scale)


cdef int attention_double(
    int64_t batch, int64_t heads, int64_t groups, int64_t queries, int64_t keys,
    int64_t head_size, int64_t value_size,
    const double* query, const int64_t* query_strides,
    const double* key, const int64_t* key_strides,
    const double* value, const int64_t* value_strides,
    double* out, const int64_t* out_strides,
    bint causal, double scale,
) noexcept nogil:
    return _attention(ATTNLIB_FLOAT64, batch, heads, groups, queries, keys, head_size, value_size,
                      query, query_strides, key, key_strides, value, value_strides, out, out_strides, causal, scale)
