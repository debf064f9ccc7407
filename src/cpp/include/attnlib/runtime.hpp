// Threads and instruction sets: the only state that operations share. Any thread may call these at any time.
#pragma once

#include <string>
#include <vector>

namespace attnlib {

// How many threads an operation may use, the caller's included. Until it is set it is what the process may really use:
// the CPUs of its affinity mask, cut by its cgroup's quota; the environment variable OMP_NUM_THREADS wins over both.
// Results do not depend on it, to the bit. `count` is at least 1.
int get_num_threads();
void set_num_threads(int count);

// The instruction sets compiled in, and those that this CPU and operating system have; slowest first.
std::vector<std::string> built_isas();
std::vector<std::string> available_isas();

// The one in use: the fastest, until another is selected.
std::string isa();

// Takes the fastest one that runs here, or `forced` if it is not empty; std::runtime_error, naming it and those that
// would do, when it is not compiled in or this CPU lacks it. Not while an operation runs, and before weights are
// packed, since each lays them out in its own way. The environment variable ATTNLIB_ISA is Python's alone.
void select_isa(const std::string& forced);

}  // namespace attnlib
