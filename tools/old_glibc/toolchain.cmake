# This machine's compiler against an older C library, so that wheels run on Linux distributions since 2018
# (manylinux_2_28) though they are built on a newer one. ATTNLIB_SYSROOT, in the environment, is what fetch_sysroot
# filled. libstdc++ goes into the module, since the older distributions have an older one; its symbols stay inside.
# The OpenMP runtime stays a library of its own, which auditwheel copies into the wheel.
set(CMAKE_SYSROOT $ENV{ATTNLIB_SYSROOT})
set(CMAKE_CXX_FLAGS_INIT "-include ${CMAKE_CURRENT_LIST_DIR}/symbol_versions.hpp")
file(GLOB library_folders ${CMAKE_SYSROOT}/lib/*-linux-gnu ${CMAKE_SYSROOT}/usr/lib/*-linux-gnu)
set(link_flags "-L${CMAKE_SYSROOT}/openmp")
foreach(folder IN LISTS library_folders)
  string(APPEND link_flags " -L${folder}")
endforeach()
string(APPEND link_flags " -static-libstdc++ -Wl,--exclude-libs,libstdc++.a -Wl,--gc-sections")
set(CMAKE_SHARED_LINKER_FLAGS_INIT "${link_flags}")
set(CMAKE_MODULE_LINKER_FLAGS_INIT "${link_flags}")
