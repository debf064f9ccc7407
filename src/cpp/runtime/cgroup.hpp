// How many CPUs the control groups of Linux let this process use.
#pragma once

#include <optional>
#include <string>

namespace attnlib {

// The least of the CPU quotas of this process's control group and of those around it, in CPUs (1.5, say), of version 2
// (cpu.max) and of version 1 (cpu.cfs_quota_us); nothing where there is none. Which groups these are, and where they
// are mounted, the files `cgroup` and `mountinfo` in `process` say.
std::optional<double> cgroup_cpus(const std::string& process = "/proc/self");

}  // namespace attnlib
