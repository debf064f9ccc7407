// CUDA's error codes as exceptions: std::runtime_error, beginning with the operation's name.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace attnlib::cuda {

inline void check(cudaError_t error, const std::string& operation) {
  if (error == cudaSuccess) return;
  const bool no_driver = error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice ||
                         error == cudaErrorStubLibrary || error == cudaErrorSystemDriverMismatch;
  throw std::runtime_error(operation + ": CUDA says '" + cudaGetErrorString(error) + "'" +
                           (no_driver ? "; a GPU with an NVIDIA driver for CUDA 13 is needed" : ""));
}

}  // namespace attnlib::cuda
