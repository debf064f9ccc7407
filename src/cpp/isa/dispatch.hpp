// The choice of a rung, made once, when the library is loaded.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.hpp"

namespace attnlib {

// The kernels in use.
const KernelTable& kernels();

// Names of the rungs compiled in, and of those that run here; slowest first.
std::vector<std::string> built_isas();
std::vector<std::string> available_isas();

// Takes the fastest rung that runs here, or `forced` if it is not empty; std::runtime_error, naming the rung and those
// that would do, when it is not compiled in or this CPU lacks it.
void select_isa(const std::string& forced);

}  // namespace attnlib
