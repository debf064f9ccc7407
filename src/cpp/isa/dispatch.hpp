// The choice of a rung, made once, when the library is loaded.
#pragma once

#include "attnlib/runtime.hpp"
#include "kernels/table.hpp"

namespace attnlib {

// The kernels in use. The names of rungs, and the choice of another, are in attnlib/runtime.hpp.
const KernelTable& kernels();

}  // namespace attnlib
