#include "isa/dispatch.hpp"

#include <array>
#include <atomic>
#include <stdexcept>

#include "isa/cpu_features.hpp"
#include "isa/rungs.hpp"  // generated from isas.cmake: ATTNLIB_FOR_EACH_RUNG(X) is X(baseline) X(avx2) ...

namespace attnlib {

#define ATTNLIB_DECLARE(rung)     \
  namespace rung {                \
  extern const KernelTable table; \
  }
ATTNLIB_FOR_EACH_RUNG(ATTNLIB_DECLARE)
#undef ATTNLIB_DECLARE

namespace {

#define ATTNLIB_ADDRESS(rung) &rung::table,
constexpr std::array all_tables = {ATTNLIB_FOR_EACH_RUNG(ATTNLIB_ADDRESS)};
#undef ATTNLIB_ADDRESS

// Atomic: in a C++ program the first calls may come from several threads at once.
constinit std::atomic<const KernelTable*> selected{nullptr};

std::string join(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::vector<std::string> built_isas() {
  std::vector<std::string> names;
  for (const KernelTable* table : all_tables) names.emplace_back(table->rung);
  return names;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names = built_isas();
  std::erase_if(names, [](const std::string& name) { return !cpu_supports_rung(name); });
  return names;
}

// Only rungs that may be taken are looked at: asking for some changes the process (cpu_features.cpp).
void select_isa(const std::string& forced) {
  for (auto table = all_tables.rbegin(); table != all_tables.rend(); ++table) {
    if (!forced.empty() && forced != (*table)->rung) continue;
    if (cpu_supports_rung((*table)->rung)) {
      selected.store(*table, std::memory_order_release);
      return;
    }
    if (!forced.empty())
      throw std::runtime_error("ATTNLIB_ISA=" + forced + ": this CPU (or its operating system) does not support it; " +
                               "available here: " + join(available_isas()));
  }
  if (forced.empty())
    throw std::runtime_error("this CPU supports none of attnlib's instruction sets: " + join(built_isas()));
  throw std::runtime_error("ATTNLIB_ISA=" + forced +
                           ": no such instruction set; available here: " + join(available_isas()));
}

const KernelTable& kernels() {
  const KernelTable* table = selected.load(std::memory_order_acquire);
  if (table == nullptr) {
    select_isa("");
    table = selected.load(std::memory_order_acquire);
  }
  return *table;
}

std::string isa() { return kernels().rung; }

}  // namespace attnlib
