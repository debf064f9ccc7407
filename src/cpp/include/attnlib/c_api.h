/* The kernels for callers that have pointers instead of arrays, such as Cython code without the GIL: plain C, no
 * exceptions. The Python module carries the table as the capsule attnlib._core._c_api; attnlib/cython_api.pxd wraps it.
 */
#ifndef ATTNLIB_C_API_H
#define ATTNLIB_C_API_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATTNLIB_C_API_VERSION 1
#define ATTNLIB_C_API_CAPSULE "attnlib._core._c_api"

enum { ATTNLIB_FLOAT32 = 0, ATTNLIB_FLOAT64 = 1 };
enum { ATTNLIB_OK = 0, ATTNLIB_BAD_VALUE = 1, ATTNLIB_NO_MEMORY = 2 };

/* Strides count elements. Rows are contiguous: the last axis has stride 1 unless a stride for it is given. */
typedef struct attnlib_matmul_arguments {
  int dtype;
  int64_t rows, columns, depth;
  const void* a; /* (rows, depth) */
  int64_t a_row_stride;
  const void* b; /* (depth, columns) */
  int64_t b_row_stride, b_column_stride;
  void* out; /* (rows, columns), overlapping neither a nor b */
  int64_t out_row_stride;
} attnlib_matmul_arguments;

typedef struct attnlib_softmax_arguments {
  int dtype;
  int64_t rows, columns;
  const void* x; /* (rows, columns) */
  int64_t x_row_stride;
  void* out; /* likewise; may be x */
  int64_t out_row_stride;
} attnlib_softmax_arguments;

typedef struct attnlib_attention_arguments {
  int dtype;
  int64_t batch, heads, groups, queries, keys, head_size, value_size;
  const void* query; /* (batch, heads, queries, head_size) */
  int64_t query_strides[3];
  const void* key; /* (batch, groups, keys, head_size); heads is a multiple of groups */
  int64_t key_strides[3];
  const void* value; /* (batch, groups, keys, value_size) */
  int64_t value_strides[3];
  void* out; /* (batch, heads, queries, value_size), overlapping no input */
  int64_t out_strides[3];
  int causal;   /* the last query sees the last key */
  double scale; /* of query . key; 0 for head_size ** -0.5 */
} attnlib_attention_arguments;

/* Each returns ATTNLIB_OK, ATTNLIB_BAD_VALUE (nothing was written) or ATTNLIB_NO_MEMORY. */
typedef struct attnlib_c_api {
  int version;
  int (*matmul)(const attnlib_matmul_arguments* arguments);
  int (*softmax)(const attnlib_softmax_arguments* arguments);
  int (*attention)(const attnlib_attention_arguments* arguments);
} attnlib_c_api;

#ifdef __cplusplus
}
#endif
#endif
