#include "attnlib/ceiling.hpp"

#include <stdexcept>
#include <string>

#include "isa/dispatch.hpp"

namespace attnlib {

double ceiling_multiply_add(CeilingDType dtype, std::int64_t steps) {
  if (steps < 0)
    throw std::invalid_argument("ceiling_multiply_add: steps must not be negative, got " + std::to_string(steps));
  const CeilingKernels& table = *kernels().ceiling;
  const MatrixUnitKernels* unit = kernels().matrix_unit;
  switch (dtype) {
    case CeilingDType::float32:
      return table.multiply_add(steps);
    case CeilingDType::bfloat16:
      return unit != nullptr ? unit->ceiling_bfloat16(steps) : table.dot_bfloat16(steps);
    case CeilingDType::int8:
      return unit != nullptr ? unit->ceiling_int8(steps) : table.dot_int8(steps);
  }
  return 0;
}

double ceiling_read(const TensorView& data, std::int64_t times) {
  if (times < 0) throw std::invalid_argument("ceiling_read: times must not be negative, got " + std::to_string(times));
  if (data.dtype != DType::float32 || !data.is_contiguous())
    throw std::invalid_argument(std::string("ceiling_read: data must be a contiguous float32 array, got ") +
                                dtype_name(data.dtype) + " of shape " + data.shape.to_string());
  return kernels().ceiling->read(static_cast<const float*>(data.data), data.size(), times);
}

}  // namespace attnlib
