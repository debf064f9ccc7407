#include "attnlib/embedding.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "runtime/parallel.hpp"

namespace attnlib {

void embedding(const StridedView<const std::int64_t>& x, const TensorView& weight, const TensorView& out) {
  const std::int64_t count = x.size(), table_rows = weight.shape.from_end(2);
  if (count == 0) return;
  const auto [low, high] = std::minmax_element(x.data, x.data + count);
  if (*low < 0 || *high >= table_rows)
    throw std::invalid_argument("Embedding: x holds " + std::to_string(*low < 0 ? *low : *high) +
                                ", outside a table of " + std::to_string(table_rows) + " rows");
  const std::int64_t size = dtype_size(weight.dtype), row_bytes = weight.shape.from_end(1) * size;
  const std::int64_t stride_bytes = weight.strides.from_end(2) * size;
  if (row_bytes == 0) return;
  const auto row_of = [&](std::int64_t i) { return weight.at(0) + x.data[i] * stride_bytes; };
  // Rows come from anywhere in memory, at about 10 GB/s.
  const int threads = threads_for(static_cast<double>(count) * static_cast<double>(row_bytes) * 0.1);
  const std::int64_t together = std::max<std::int64_t>((std::int64_t{64} << 10) / row_bytes, 1);
  parallel_for((count + together - 1) / together, threads, [&](std::int64_t task) {
    const std::int64_t end = std::min((task + 1) * together, count);
    for (std::int64_t i = task * together; i < end; ++i) {
      if (i + 1 < end) __builtin_prefetch(row_of(i + 1));
      std::memcpy(out.at(0) + i * row_bytes, row_of(i), static_cast<std::size_t>(row_bytes));
    }
  });
}

}  // namespace attnlib
