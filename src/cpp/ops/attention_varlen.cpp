#include <limits>
#include <stdexcept>
#include <string>

#include "ops/attention_tasks.hpp"

namespace attnlib {

void check_offsets(const char* operation, std::span<const std::int64_t> offsets, std::int64_t total, const char* name,
                   const char* axis) {
  const auto refuse = [&](const std::string& text) {
    throw std::invalid_argument(std::string(operation) + ": " + name + " " + text);
  };
  if (offsets.empty()) refuse("must have N + 1 entries, got none");
  if (offsets.front() != 0) refuse("must begin with 0, got " + std::to_string(offsets.front()));
  for (std::size_t n = 1; n < offsets.size(); ++n)
    if (offsets[n] < offsets[n - 1])
      refuse("must not decrease, got " + std::to_string(offsets[n - 1]) + " before " + std::to_string(offsets[n]));
  if (offsets.back() != total)
    refuse("must end with " + std::string(axis) + " = " + std::to_string(total) + ", got " +
           std::to_string(offsets.back()));
}

AttentionShapes attention_varlen_shapes(const Shape& query, const Shape& key, const Shape& value) {
  const std::string shapes =
      ", got query " + query.to_string() + ", key " + key.to_string() + ", value " + value.to_string();
  for (const Shape* shape : {&query, &key, &value})
    if (shape->rank() != 3)
      throw std::invalid_argument("attention_varlen: query must be (Tq, H, D), key (Tk, G, D), value (Tk, G, Dv)" +
                                  shapes);
  if (query[2] != key[2])
    throw std::invalid_argument("attention_varlen: query and key must have the same head size D" + shapes);
  if (key[0] != value[0] || key[1] != value[1])
    throw std::invalid_argument("attention_varlen: key and value must have the same length and heads" + shapes);
  if (key[1] == 0 ? query[1] != 0 : query[1] % key[1] != 0)
    throw std::invalid_argument("attention_varlen: the heads of query (" + std::to_string(query[1]) +
                                ") must be a multiple of those of key and value (" + std::to_string(key[1]) + ")" +
                                shapes);
  AttentionShapes result;
  result.out = {query[0], query[1], value[2]};
  result.lse = {query[0], query[1]};
  return result;
}

void attention_varlen(const TensorView& query, const TensorView& key, const TensorView& value,
                      std::span<const std::int64_t> cu_seqlens_q, std::span<const std::int64_t> cu_seqlens_k,
                      const AttentionOptions& options, const AttentionResults& results) {
  check_offsets("attention_varlen", cu_seqlens_q, query.shape[0], "cu_seqlens_q", "Tq");
  check_offsets("attention_varlen", cu_seqlens_k, key.shape[0], "cu_seqlens_k", "Tk");
  if (cu_seqlens_q.size() != cu_seqlens_k.size())
    throw std::invalid_argument(
        "attention_varlen: cu_seqlens_q and cu_seqlens_k must have the same number of entries, got " +
        std::to_string(cu_seqlens_q.size()) + " and " + std::to_string(cu_seqlens_k.size()));
  for (std::size_t n = 1; n < cu_seqlens_k.size(); ++n)
    if (cu_seqlens_k[n] - cu_seqlens_k[n - 1] > std::numeric_limits<std::int32_t>::max())
      throw std::invalid_argument("attention_varlen: a sequence may have at most 2147483647 keys, got " +
                                  std::to_string(cu_seqlens_k[n] - cu_seqlens_k[n - 1]));
  const TensorView& out = results.out;
  AttentionCall call = begin_attention("attention_varlen", query.dtype, query.shape[1], key.shape[1], query.shape[2],
                                       value.shape[2], options);
  AttentionTask& common = call.common;
  common.query_head_stride = query.strides[1];
  common.query_stride = query.strides[0];
  common.key_stride = key.strides[0];
  common.value_stride = value.strides[0];
  common.out_head_stride = out.strides[1];
  common.out_stride = out.strides[0];
  if (results.lse != nullptr) {
    common.lse_head_stride = results.lse->strides[1];
    common.lse_query_stride = results.lse->strides[0];
  }
  const auto lengths = [&](std::int64_t n) {
    const auto i = static_cast<std::size_t>(n);
    return SequenceLengths{cu_seqlens_q[i + 1] - cu_seqlens_q[i], cu_seqlens_k[i + 1] - cu_seqlens_k[i]};
  };
  const std::int64_t compute_size = query.dtype == DType::float64 ? 8 : 4;
  run_attention(call, static_cast<std::int64_t>(cu_seqlens_q.size()) - 1, lengths,
                [&](AttentionTask& task, std::int64_t n, std::int64_t group) {
                  const std::int64_t head = group * call.heads;
                  const std::int64_t first_query = cu_seqlens_q[static_cast<std::size_t>(n)];
                  const std::int64_t first_key = cu_seqlens_k[static_cast<std::size_t>(n)];
                  task.query = query.at(first_query * query.strides[0] + head * query.strides[1]);
                  task.key = key.at(first_key * key.strides[0] + group * key.strides[1]);
                  task.value = value.at(first_key * value.strides[0] + group * value.strides[1]);
                  task.out = out.at(first_query * out.strides[0] + head * out.strides[1]);
                  if (task.slopes != nullptr) task.slopes = options.alibi_slopes->at(head);
                  if (task.sinks != nullptr) task.sinks = options.sinks->at(head);
                  if (results.lse != nullptr)
                    task.lse = static_cast<std::byte*>(results.lse->data) +
                               (first_query * results.lse->strides[0] + head * results.lse->strides[1]) * compute_size;
                  set_positions(task, task.keys - lengths(n).queries, options);
                });
}

}  // namespace attnlib
