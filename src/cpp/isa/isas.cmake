# THE list of rungs. A rung is a row here, a predicate in cpu_features.cpp and at most one file under kernels/simd/.
# The kernels are compiled once per row, from the same sources, with -DATTNLIB_ISA=<rung>. Later rows are faster:
# dispatch takes the last one that the CPU and the operating system support.
#
# A rung that EXTENDS another takes its kernels, and compiles KERNELS of its own for what it does otherwise
# (kernels/matrix_unit.hpp).

if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(ATTNLIB_RUNGS baseline avx2 avx512 avx512_vnni_bf16 avx512_amx)
  set(ATTNLIB_FLAGS_baseline -march=x86-64-v2)
  set(ATTNLIB_FLAGS_avx2 -march=x86-64-v3)
  set(ATTNLIB_FLAGS_avx512 -march=x86-64-v4 -mprefer-vector-width=512)
  set(ATTNLIB_FLAGS_avx512_vnni_bf16 -march=x86-64-v4 -mavx512vnni -mavx512bf16 -mprefer-vector-width=512)
  set(ATTNLIB_EXTENDS_avx512_amx avx512_vnni_bf16)
  # Compilers do not agree on the names by which they tell that there are tiles.
  set(ATTNLIB_FLAGS_avx512_amx ${ATTNLIB_FLAGS_avx512_vnni_bf16} -mamx-tile -mamx-int8 -mamx-bf16 -DATTNLIB_MATRIX_UNIT)
  set(ATTNLIB_KERNELS_avx512_amx kernels/amx/attention.cpp kernels/amx/attention_decode.cpp kernels/amx/ceiling.cpp
                                 kernels/amx/matmul.cpp kernels/amx/matrix_unit.cpp kernels/table.cpp)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64|ARM64")
  set(ATTNLIB_RUNGS baseline neon_dotprod)
  # Scheduled before registers are allotted, GCC's loops load so far ahead that accumulators are spilled.
  set(in_order $<$<CXX_COMPILER_ID:GNU>:-fno-schedule-insns>)
  set(ATTNLIB_FLAGS_baseline -march=armv8-a ${in_order})
  set(ATTNLIB_FLAGS_neon_dotprod -march=armv8.2-a+dotprod ${in_order})
else()
  # The compiler lowers the generic vectors to what there is.
  set(ATTNLIB_RUNGS baseline)
  set(ATTNLIB_FLAGS_baseline)
endif()

# tools/check_cuda builds one rung, since none of them runs there.
if(ATTNLIB_ONLY_RUNG)
  set(ATTNLIB_RUNGS ${ATTNLIB_ONLY_RUNG})
endif()
