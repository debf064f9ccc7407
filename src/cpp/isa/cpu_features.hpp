// What this CPU and this operating system can run.
#pragma once

#include <string_view>

namespace attnlib {

// Whether code compiled for the rung runs here: the CPU has the instructions and the operating system saves the
// registers they need.
bool cpu_supports_rung(std::string_view rung);

}  // namespace attnlib
