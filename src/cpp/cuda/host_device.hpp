// Code for both sides. What nvcc compiles for the GPU is also plain C++ in the headers of this folder, so that the
// tests run it on a CPU (tests/cuda/emulation), thread by thread, on machines without a GPU.
#pragma once

#ifdef __CUDACC__
#define ATTNLIB_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define ATTNLIB_HOST_DEVICE inline
#endif

// Loops over accumulators must be unrolled: an array that is indexed at run time cannot lie in registers.
// Around them a loop stays one: its copies would cost the compiler minutes, and registers.
#ifdef __CUDA_ARCH__
#define ATTNLIB_UNROLL _Pragma("unroll")
#define ATTNLIB_ROLLED _Pragma("unroll 1")
#else
#define ATTNLIB_UNROLL
#define ATTNLIB_ROLLED
#endif
