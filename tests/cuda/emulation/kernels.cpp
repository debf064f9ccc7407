// The kernels of src/cpp/cuda, run on the CPU, for emulated.py to call. dtype: 0 float32, 2 float16, 3 bfloat16.
#include <memory>

#include "cuda/attention_tile.hpp"
#include "cuda/matmul_tile.hpp"
#include "cuda/scalar_product.hpp"
#include "cuda/softmax_rows.hpp"
#include "emulated_block.hpp"
#include "emulated_product.hpp"

namespace attnlib::emulation {
namespace {

template <class Element>
struct ProductOf {
  using type = Product<Element>;
};
template <>
struct ProductOf<float> {
  using type = cuda::ScalarProduct;
};

template <class Tile, class Arguments>
void run_tiles(std::int64_t blocks, const Arguments& call) {
  for (std::int64_t number = 0; number < blocks; ++number) {
    // Shared memory holds anything at first: here NaN.
    const auto shared = std::make_unique<typename Tile::Shared>();
    std::memset(static_cast<void*>(shared.get()), 0xff, sizeof(typename Tile::Shared));
    Block block(32 * Tile::warps, number);
    block.run([&](int index) { Tile::run(Thread(block, index), *shared, call); });
  }
}

template <class Element, int Head>
void attention(const cuda::AttentionArguments& call) {
  using Tile = cuda::AttentionTile<Element, typename ProductOf<Element>::type, Head>;
  run_tiles<Tile>((call.queries + Tile::rows - 1) / Tile::rows * call.heads * call.batches, call);
}

template <class Element>
void attention(cuda::AttentionArguments call) {
  const auto wide = [](const void* data, const std::int64_t (&strides)[3]) {
    return cuda::rows_are_wide<Element>(data, strides[1], strides[2]) && strides[0] % 8 == 0;
  };
  call.query_wide = wide(call.query, call.query_strides);
  call.key_wide = wide(call.key, call.key_strides);
  call.value_wide = wide(call.value, call.value_strides);
  const int size = call.head_size > call.value_size ? call.head_size : call.value_size;
  if (size <= 64) return attention<Element, 64>(call);
  if (size <= 128) return attention<Element, 128>(call);
  attention<Element, 256>(call);
}

template <class Element>
void matmul(cuda::MatmulArguments call) {
  call.a_wide = cuda::rows_are_wide<Element>(call.a, call.a_strides[0], call.a_strides[1]);
  call.b_wide = cuda::rows_are_wide<Element>(call.b, call.b_strides[0], call.b_strides[1]);
  using Tile = cuda::MatmulTile<Element, typename ProductOf<Element>::type>;
  run_tiles<Tile>((call.rows + Tile::rows - 1) / Tile::rows * ((call.columns + Tile::columns - 1) / Tile::columns),
                  call);
}

template <class Element>
void softmax(const cuda::SoftmaxArguments& call) {
  using Rows = cuda::SoftmaxRows<Element>;
  for (std::int64_t number = 0; number < (call.rows + Rows::warps - 1) / Rows::warps; ++number) {
    Block block(32 * Rows::warps, number);
    block.run([&](int index) { Rows::run(Thread(block, index), call); });
  }
}

}  // namespace
}  // namespace attnlib::emulation

#define ATTNLIB_BY_DTYPE(function, call)                              \
  dtype == 0   ? attnlib::emulation::function<float>(call)            \
  : dtype == 2 ? attnlib::emulation::function<attnlib::float16>(call) \
               : attnlib::emulation::function<attnlib::bfloat16>(call)

// sizes: B, H, H / G, Sq, Sk, D, Dv; strides: (batch, head, row, column) of query, key, value and out.
extern "C" void emulated_attention(int dtype, const void* query, const void* key, const void* value, void* out,
                                   const std::int64_t* sizes, const std::int64_t* strides,
                                   const std::int64_t* key_lengths, int causal, float scale) {
  attnlib::cuda::AttentionArguments call{};
  call.query = query, call.key = key, call.value = value, call.out = out;
  call.batches = sizes[0], call.heads = sizes[1], call.heads_per_group = sizes[2];
  call.queries = sizes[3], call.keys = sizes[4];
  call.head_size = static_cast<int>(sizes[5]), call.value_size = static_cast<int>(sizes[6]);
  call.batch.rank = 1;
  call.batch.extents[0] = sizes[0];
  call.batch.strides[4][0] = 1;
  std::int64_t (*const of[])[3] = {&call.query_strides, &call.key_strides, &call.value_strides, &call.out_strides};
  for (int array = 0; array < 4; ++array) {
    call.batch.strides[array][0] = strides[4 * array];
    for (int axis = 0; axis < 3; ++axis) (*of[array])[axis] = strides[4 * array + 1 + axis];
  }
  call.key_lengths = key_lengths, call.causal = causal != 0, call.scale = scale * attnlib::cuda::log2_e;
  ATTNLIB_BY_DTYPE(attention, call);
}

// sizes: M, N, K; strides: (row, column) of a, b and out.
extern "C" void emulated_matmul(int dtype, const void* a, const void* b, void* out, const std::int64_t* sizes,
                                const std::int64_t* strides) {
  attnlib::cuda::MatmulArguments call{};
  call.a = a, call.b = b, call.out = out;
  call.batches = 1, call.rows = sizes[0], call.columns = sizes[1], call.depth = sizes[2];
  for (int axis = 0; axis < 2; ++axis) {
    call.a_strides[axis] = strides[axis];
    call.b_strides[axis] = strides[2 + axis];
    call.out_strides[axis] = strides[4 + axis];
  }
  ATTNLIB_BY_DTYPE(matmul, call);
}

// Rows of n contiguous elements.
extern "C" void emulated_softmax(int dtype, const void* x, void* out, std::int64_t rows, std::int64_t n) {
  attnlib::cuda::SoftmaxArguments call{};
  call.x = x, call.out = out, call.rows = rows, call.n = n, call.x_step = call.out_step = 1;
  call.rows_at.rank = 1, call.rows_at.extents[0] = rows;
  call.rows_at.strides[0][0] = call.rows_at.strides[1][0] = n;
  ATTNLIB_BY_DTYPE(softmax, call);
}
