#include "isa/cpu_features.hpp"

#include <cstdint>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace attnlib {

#if defined(__x86_64__)
namespace {

struct Registers {
  std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(std::uint32_t word, int index) { return ((word >> index) & 1u) != 0; }

// Which register states the operating system saves on a context switch (XCR0); 0 if it does not say.
std::uint64_t saved_states() {
  if (!bit(cpuid(1, 0).ecx, 27)) return 0;  // OSXSAVE
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

// The tiles of AMX are so large that Linux keeps them only for processes that ask: once, for all threads to come and
// those that are there. It refuses where a thread's stack for signals is too small to save them.
bool may_use_tiles() {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr int request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

struct CpuFeatures {
  bool x86_64_v2, avx2, avx512, avx512_vnni_bf16, amx;

  CpuFeatures() {
    const Registers one = cpuid(1, 0);
    const Registers seven = cpuid(7, 0);
    const Registers seven_one = cpuid(7, 1);
    const Registers extended = cpuid(0x80000001u, 0);
    const std::uint64_t states = saved_states();
    const bool os_ymm = (states & 0x6u) == 0x6u;
    const bool os_zmm = (states & 0xe6u) == 0xe6u;
    // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT, LAHF
    x86_64_v2 = bit(one.ecx, 0) && bit(one.ecx, 9) && bit(one.ecx, 13) && bit(one.ecx, 19) && bit(one.ecx, 20) &&
                bit(one.ecx, 23) && bit(extended.ecx, 0);
    // AVX, FMA, F16C, MOVBE; BMI1, AVX2, BMI2; LZCNT
    avx2 = x86_64_v2 && os_ymm && bit(one.ecx, 28) && bit(one.ecx, 12) && bit(one.ecx, 29) && bit(one.ecx, 22) &&
           bit(seven.ebx, 3) && bit(seven.ebx, 5) && bit(seven.ebx, 8) && bit(extended.ecx, 5);
    // AVX512F, DQ, CD, BW, VL
    avx512 = avx2 && os_zmm && bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 28) && bit(seven.ebx, 30) &&
             bit(seven.ebx, 31);
    avx512_vnni_bf16 = avx512 && bit(seven.ecx, 11) && bit(seven_one.eax, 5);
    // AMX-BF16, AMX-TILE, AMX-INT8; the shapes of the tiles and what they hold
    amx = bit(seven.edx, 22) && bit(seven.edx, 24) && bit(seven.edx, 25) && (states & 0x60000u) == 0x60000u;
  }
};

}  // namespace

bool cpu_supports_rung(std::string_view rung) {
  static const CpuFeatures cpu;
  if (rung == "baseline") return cpu.x86_64_v2;
  if (rung == "avx2") return cpu.avx2;
  if (rung == "avx512") return cpu.avx512;
  if (rung == "avx512_vnni_bf16") return cpu.avx512_vnni_bf16;
  if (rung == "avx512_amx") {
    // Asked for only where somebody wants this rung: it changes the process.
    static const bool allowed = cpu.avx512_vnni_bf16 && cpu.amx && may_use_tiles();
    return allowed;
  }
  return false;
}
#elif defined(__aarch64__) && defined(__linux__)
bool cpu_supports_rung(std::string_view rung) {
  // The dot products, and what ARMv8.1 brought.
  constexpr auto wanted = static_cast<unsigned long>(HWCAP_ASIMDDP | HWCAP_ASIMDRDM | HWCAP_ATOMICS);
  if (rung == "neon_dotprod") return (getauxval(AT_HWCAP) & wanted) == wanted;
  return rung == "baseline";
}
#else
bool cpu_supports_rung(std::string_view rung) { return rung == "baseline"; }
#endif

}  // namespace attnlib
