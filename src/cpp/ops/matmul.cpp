#include "attnlib/matmul.hpp"

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "isa/dispatch.hpp"
#include "ops/product.hpp"
#include "runtime/parallel.hpp"
#include "runtime/workspace.hpp"

namespace attnlib {
namespace {

// Axes that can be walked as one with one stride, such as any of a C-contiguous array.
struct Walk {
  std::int64_t count, stride;
};
std::optional<Walk> walk_of(const Shape& shape, const Shape& strides) {
  Walk walk{1, 0};
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    const std::int64_t extent = shape[axis];
    if (extent == 1) continue;
    if (walk.count == 1)
      walk.stride = strides[axis];
    else if (strides[axis] != walk.stride * walk.count)
      return std::nullopt;
    walk.count *= extent;
  }
  return walk;
}
std::optional<Walk> walk_of_rows(const TensorView& view) {
  return walk_of(view.shape.first(std::max(view.rank() - 1, 0)), view.strides);
}

// np.matmul's promotion of 1-D arguments: (n,) is (1, n) on the left and (n, 1) on the right.
TensorView as_matrix(const TensorView& view, bool left) {
  if (view.rank() != 1) return view;
  TensorView matrix = view;
  matrix.shape = left ? Shape{1, view.shape[0]} : Shape{view.shape[0], 1};
  matrix.strides = left ? Shape{view.shape[0], view.strides[0]} : Shape{view.strides[0], 1};
  return matrix;
}

void set_b(Product& product, const TensorView& b) {
  product.b = b.at(0);
  product.b_depth_stride = b.strides.from_end(2);
  product.b_column_stride = b.strides.from_end(1);
}

}  // namespace

Shape matmul_shape(const Shape& a, const Shape& b) {
  const std::string shapes = " (a " + a.to_string() + ", b " + b.to_string() + ")";
  if (a.rank() == 0 || b.rank() == 0)
    throw std::invalid_argument("matmul: a and b must have at least one axis, got shapes" + shapes);
  const std::int64_t depth = b.rank() == 1 ? b[0] : b.from_end(2);
  if (a.from_end(1) != depth)
    throw std::invalid_argument("matmul: the last axis of a (" + std::to_string(a.from_end(1)) +
                                ") must match the second to last axis of b (" + std::to_string(depth) + ")" + shapes);
  Shape shape = broadcast_shapes(a.first(std::max(a.rank() - 2, 0)), b.first(std::max(b.rank() - 2, 0)),
                                 "matmul: the leading axes of a and b");
  if (a.rank() > 1) shape.push_back(a.from_end(2));
  if (b.rank() > 1) shape.push_back(b.from_end(1));
  return shape;
}

void matmul(const TensorView& a_given, const TensorView& b_given, const TensorView& out_given) {
  if (out_given.size() == 0) return;  // of any number of empty matrices
  const TensorView a = as_matrix(a_given, true);
  const TensorView b = as_matrix(b_given, false);
  const std::int64_t rows = a.shape.from_end(2), columns = b.shape.from_end(1), depth = a.shape.from_end(1);
  const int leading_axes = out_given.rank() - (a_given.rank() > 1 ? 1 : 0) - (b_given.rank() > 1 ? 1 : 0);
  const Shape leading = out_given.shape.first(leading_axes);
  const Shape out_leading_strides = out_given.strides.first(leading_axes);

  Product product;
  product.columns = columns;
  product.depth = depth;
  product.dtype = a.dtype;
  set_b(product, b);
  product.a = a.at(0);
  product.out = out_given.at(0);
  // A 1-D left argument has no row axis in out, a 1-D right one no column axis: then the column is the row axis' step.
  product.out_stride = a_given.rank() > 1 ? out_given.strides[leading_axes] : 0;
  product.rows = rows;
  product.a_stride = a.strides.from_end(2);

  const bool column_out = b_given.rank() == 1 && a_given.rank() > 1;
  // One b for the whole batch: its rows are one long product, if one stride walks them.
  if (b.rank() == 2 && !column_out) {
    const auto a_rows = walk_of_rows(a);
    const auto out_rows = a_given.rank() > 1 ? walk_of_rows(out_given) : Walk{1, 0};
    if (a_rows && out_rows) {
      product.rows = a_rows->count;
      product.a_stride = a_rows->stride;
      product.out_stride = out_rows->stride;
      run_product(product, 0);
      return;
    }
  }

  const Shape a_strides = broadcast_strides(a.shape.first(a.rank() - 2), a.strides, leading, "matmul: a");
  const Shape b_strides = broadcast_strides(b.shape.first(b.rank() - 2), b.strides, leading, "matmul: b");
  const std::int64_t batch = leading.size();
  const double size = static_cast<double>(dtype_size(a.dtype));
  const double nanoseconds = product_nanoseconds(rows, columns, depth, size);
  const int threads = threads_for(nanoseconds * static_cast<double>(batch));

  const auto a_walk = walk_of(leading, a_strides), b_walk = walk_of(leading, b_strides);
  const auto out_walk = walk_of(leading, out_leading_strides);
  // Long ones share their b among the threads, one after the other.
  const bool long_ones = nanoseconds >= 1e7;
  if (a_walk && b_walk && out_walk && !long_ones && takes_batch(product)) {
    product.batch = batch;
    product.a_batch_stride = a_walk->stride;
    product.b_batch_stride = b_walk->stride;
    product.out_batch_stride = out_walk->stride;
    // If the caches can wait with them, and the same thread multiplies them.
    const double elements = static_cast<double>(depth) * (static_cast<double>(rows) + static_cast<double>(columns));
    product.fetches_next = elements * size <= 256.0 * 1024.0 && (threads == 1 || batch >= 4 * threads);
    run_product(product, threads);
    return;
  }
  const auto run = [&](std::int64_t index, int threads_of_one) {
    Product one = product;
    one.a = a.at(offset_of(index, leading, a_strides, leading_axes));
    one.b = b.at(offset_of(index, leading, b_strides, leading_axes));
    one.out = out_given.at(offset_of(index, leading, out_leading_strides, leading_axes));
    run_product(one, threads_of_one);
  };
  if (batch >= 4 * threads && !long_ones) {
    parallel_for(batch, threads, [&](std::int64_t index) { run(index, 1); });
  } else {
    for (std::int64_t index = 0; index < batch; ++index) run(index, 0);
  }
}

Shape linear_shape(const Shape& x, const Shape& weight, const std::string& operation) {
  if (weight.rank() != 2)
    throw std::invalid_argument(operation + ": weight must be (out_features, in_features), got shape " +
                                weight.to_string());
  if (x.rank() == 0 || x.from_end(1) != weight[1])
    throw std::invalid_argument(operation + ": the last axis of x must be in_features = " + std::to_string(weight[1]) +
                                ", got x " + x.to_string() + " with weight " + weight.to_string());
  Shape shape = x.first(x.rank() - 1);
  shape.push_back(weight[0]);
  return shape;
}

namespace {

// x @ weight.T with the epilogue, b given in `product`.
void run_linear(Product product, const TensorView& x, const LinearOptions& options, const TensorView& out) {
  product.columns = out.shape.from_end(1);
  product.depth = x.shape.from_end(1);
  product.dtype = x.dtype;
  product.activation = options.activation;
  const DType compute = compute_dtype(x.dtype);

  std::optional<Scratch> wide_bias;
  if (options.bias != nullptr) {
    const TensorView& bias = *options.bias;
    if (bias.rank() != 1 || bias.shape[0] != product.columns)
      throw std::invalid_argument("linear: bias must be (out_features,) = (" + std::to_string(product.columns) +
                                  ",), got shape " + bias.shape.to_string());
    product.bias = bias.at(0);
    if (bias.dtype != compute) {
      wide_bias.emplace(product.columns * dtype_size(compute));
      MatmulRows widening{};
      widening.rows = 1;
      widening.depth = widening.target_stride = product.columns;
      widening.source = bias.at(0);
      widening.target = wide_bias->as<float>();
      kernels().matmul->stage[static_cast<int>(bias.dtype)][static_cast<int>(ProductKind::float32)](&widening);
      product.bias = wide_bias->as<std::byte>();
    }
  }
  if (options.residual != nullptr && !(options.residual->shape == out.shape))
    throw std::invalid_argument("linear: residual must have the result's shape " + out.shape.to_string() + ", got " +
                                options.residual->shape.to_string());
  if (out.size() == 0) return;

  const auto run = [&](const Product& whole) {
    run_product(options.members > 1 ? share_of(whole, options.member, options.members) : whole, options.threads);
  };
  const auto x_rows = walk_of_rows(x);
  const auto out_rows = walk_of_rows(out);
  const auto residual_rows = options.residual == nullptr ? Walk{0, 0} : walk_of_rows(*options.residual);
  if (x_rows && out_rows && residual_rows) {
    product.rows = x_rows->count;
    product.a = x.at(0);
    product.a_stride = x_rows->stride;
    product.out = out.at(0);
    product.out_stride = out_rows->stride;
    if (options.residual != nullptr) product.residual = options.residual->at(0);
    product.residual_stride = residual_rows->stride;
    run(product);
    return;
  }
  // Leading axes that no single stride walks: matrix by matrix.
  const int leading_axes = x.rank() - 2;
  const Shape leading = x.shape.first(leading_axes);
  product.rows = x.shape.from_end(2);
  product.a_stride = x.strides.from_end(2);
  product.out_stride = out.strides.from_end(2);
  if (options.residual != nullptr) product.residual_stride = options.residual->strides.from_end(2);
  for (std::int64_t index = 0; index < leading.size(); ++index) {
    product.a = x.at(offset_of(index, leading, x.strides, leading_axes));
    product.out = out.at(offset_of(index, leading, out.strides, leading_axes));
    if (options.residual != nullptr)
      product.residual = options.residual->at(offset_of(index, leading, options.residual->strides, leading_axes));
    run(product);
  }
}

}  // namespace

void linear(const TensorView& x, const TensorView& weight, const LinearOptions& options, const TensorView& out) {
  Product product;
  product.b = weight.at(0);
  product.b_depth_stride = weight.strides[1];
  product.b_column_stride = weight.strides[0];
  run_linear(product, x, options, out);
}

void linear(const TensorView& x, const PackedWeight& weight, const LinearOptions& options, const TensorView& out) {
  Product product;
  product.packed = &weight;
  run_linear(product, x, options, out);
}

void linear_in_parts(const TensorView& x, std::span<const PackedWeight* const> parts, const TensorView& out) {
  std::vector<std::int64_t> first(parts.size());
  std::int64_t columns = 0;
  double nanoseconds = 0;
  const std::int64_t rows = x.shape.first(x.rank() - 1).size();
  for (std::size_t part = 0; part < parts.size(); ++part) {
    first[part] = columns;
    columns += parts[part]->out_features();
    nanoseconds += product_nanoseconds(rows, *parts[part]);
  }
  const auto count = static_cast<std::int64_t>(parts.size());
  const int threads = threads_for(nanoseconds);
  // A part is a task where that keeps the threads busy; few parts share them one by one.
  const int across = count >= 4 * static_cast<std::int64_t>(threads) ? threads : 1;
  parallel_for(count, across, [&](std::int64_t part) {
    const PackedWeight& weight = *parts[static_cast<std::size_t>(part)];
    TensorView target = out;
    target.data = out.at(first[static_cast<std::size_t>(part)] * out.strides.from_end(1));
    target.shape[out.rank() - 1] = weight.out_features();
    linear(x, weight, {.threads = across > 1 ? 1 : 0}, target);
  });
}

}  // namespace attnlib
