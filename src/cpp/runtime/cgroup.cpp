#include "runtime/cgroup.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

namespace attnlib {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

bool lists(const std::string& names, std::string_view name) {
  const std::vector<std::string> parts = split(names, ',');
  return std::find(parts.begin(), parts.end(), name) != parts.end();
}

bool is_within(const std::string& path, const std::string& folder) {
  return path.rfind(folder, 0) == 0 &&
         (path.size() == folder.size() || folder.back() == '/' || path[folder.size()] == '/');
}

// mountinfo writes a space in a path as \040, and so on.
std::string unescaped(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '\\' && i + 3 < text.size();
    result += escape ? static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8)) : text[i];
    if (escape) i += 3;
  }
  return result;
}

// The path of this process's group in a hierarchy: the unified one, or that of version 1 which has the CPU controller.
std::optional<std::string> group_path(const std::string& process, bool unified) {
  std::ifstream file(process + "/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:cpu,cpuacct:/path", "0::/path"
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (unified ? line.substr(0, first) == "0" && controllers.empty() : lists(controllers, "cpu"))
      return line.substr(second + 1);
  }
  return std::nullopt;
}

struct Mount {
  std::string root, point;
};

std::optional<Mount> mount_of(const std::string& process, bool unified) {
  std::ifstream file(process + "/mountinfo");
  for (std::string line; std::getline(file, line);) {
    // ID, parent, device, root, mount point, options, some more fields, "-", type, source, the type's own options
    const std::vector<std::string> fields = split(line, ' ');
    const auto dash = std::find(fields.begin() + std::min<std::ptrdiff_t>(6, std::ssize(fields)), fields.end(), "-");
    if (fields.end() - dash < 4) continue;
    if (unified ? dash[1] == "cgroup2" : dash[1] == "cgroup" && lists(dash[3], "cpu"))
      return Mount{unescaped(fields[3]), unescaped(fields[4])};
  }
  return std::nullopt;
}

std::optional<double> quota_of(const std::string& folder, bool unified) {
  double quota = -1.0, period = 0.0;
  if (unified) {
    std::ifstream(folder + "/cpu.max") >> quota >> period;  // "max 100000" is no number
  } else {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  return quota > 0.0 && period > 0.0 ? std::optional(quota / period) : std::nullopt;
}

}  // namespace

std::optional<double> cgroup_cpus(const std::string& process) {
  std::optional<double> least;
  for (const bool unified : {true, false}) {
    const auto mount = mount_of(process, unified);
    const auto path = group_path(process, unified);
    if (!mount || !path || mount->point.empty()) continue;
    // In a container that sees no more than its own group, the mount's root is that group, or the path leads out
    // ("/..").
    std::string folder = mount->point;
    if (is_within(*path, mount->root) && path->find("/..") == std::string::npos)
      folder += '/' + path->substr(std::min(mount->root == "/" ? 1 : mount->root.size(), path->size()));
    for (; is_within(folder, mount->point); folder.resize(folder.rfind('/'))) {
      if (const auto quota = quota_of(folder, unified)) least = std::min(*quota, least.value_or(*quota));
      if (folder.rfind('/') == std::string::npos) break;
    }
  }
  return least;
}

}  // namespace attnlib
