// Included before every source by toolchain.cmake: what even the older C library has only in a version that is newer
// than manylinux_2_28 allows, and what a newer libstdc++.a expects of it.
#pragma once

#if defined(__x86_64__)
// Since glibc 2.29 these set errno without a wrapper; the values are the same.
__asm__(".symver exp,exp@GLIBC_2.2.5");
__asm__(".symver log,log@GLIBC_2.2.5");
__asm__(".symver pow,pow@GLIBC_2.2.5");
#endif

// glibc 2.32 tells libstdc++ whether a process has one thread, so that it may count references without atomic
// instructions. 0 is always right.
extern "C" {
[[gnu::weak, gnu::visibility("hidden")]] char __libc_single_threaded = 0;
}
