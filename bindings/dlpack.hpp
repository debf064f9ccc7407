// The structures of DLPack (dmlc.github.io/dlpack), the protocol by which array libraries share memory without a copy.
// A tensor comes in a capsule named "dltensor", which every producer and consumer understands, or, with a version and
// flags, "dltensor_versioned".
#pragma once

#include <cstdint>

namespace attnlib::dlpack {

enum DeviceType : std::int32_t { cpu = 1, cuda = 2, cuda_managed = 13 };
enum TypeCode : std::uint8_t { floating = 2, bfloat = 4 };

struct Device {
  std::int32_t type, id;
};
struct DataType {
  std::uint8_t code, bits;
  std::uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  std::int32_t rank;
  DataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: C-contiguous
  std::uint64_t byte_offset;
};
struct ManagedTensor {
  static constexpr const char *name = "dltensor", *used_name = "used_dltensor";
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};
struct ManagedTensorVersioned {
  static constexpr const char *name = "dltensor_versioned", *used_name = "used_dltensor_versioned";
  std::uint32_t major, minor;
  void* context;
  void (*deleter)(ManagedTensorVersioned*);
  std::uint64_t flags;
  Tensor tensor;
};

}  // namespace attnlib::dlpack
