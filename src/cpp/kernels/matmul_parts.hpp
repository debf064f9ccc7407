// What matmul.cpp's table takes from the other files of the family, of the same rung.
#pragma once

#include "kernels/matmul.hpp"
#include "kernels/simd/vector.hpp"

namespace attnlib::ATTNLIB_ISA {

// kernels/matmul_pack.cpp: T to panels of P; bfloat16 to panels of pairs.
template <class T, class P>
void pack(const MatmulPack* pack) noexcept;
void pack_pairs(const MatmulPack* pack) noexcept;

// kernels/matmul_int8.cpp and kernels/matmul_int4.cpp: products with results of T, and rows of T quantised for them.
template <class T>
void multiply_int8(const MatmulBlock* block) noexcept;
template <class T>
void stage_int8(const MatmulRows* rows) noexcept;
template <class T>
void multiply_int4(const MatmulBlock* block) noexcept;
template <class T>
void stage_int4(const MatmulRows* rows) noexcept;

}  // namespace attnlib::ATTNLIB_ISA
