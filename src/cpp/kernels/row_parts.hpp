// How rows are grouped and divided: what the row kernels and the operations that call them agree on.
#pragma once

#include <cstdint>

namespace attnlib {

// A reduction along a row sums up parts of so many elements, then adds the parts' sums in their order. A long row can
// so be given to several threads part by part, and has the same bits when one thread does all of it.
inline constexpr std::int64_t row_part = 8192;

// Kernels take short rows in groups of at most so many elements and rows, and each pass through all rows of a group
// before the next: the end of a reduction (shuffles, a division, a square root) takes some fifty cycles, in which the
// next row's pass can start already. A group of float32 rows and their results fills the first-level cache.
inline constexpr std::int64_t row_group_elements = 4096;
inline constexpr int row_group_rows = 16;

// Scratch elements that a kernel wants for rows of n elements.
constexpr std::int64_t row_scratch(std::int64_t n) { return n > row_group_elements ? n : row_group_elements; }

}  // namespace attnlib
