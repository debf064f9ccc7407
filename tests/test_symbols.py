"""No code compiled for a rung can end up in a process that runs on a lesser one.

An object compiled with AVX-512 flags that defines a symbol outside its rung's namespace (an instance of
std::max, a member of std::vector, an inline function of a shared header) offers it to the linker, which may
keep that copy for everyone: SIGILL on an older CPU. So every global or weak symbol that a rung's objects
define lies in attnlib::<rung>.
"""

from __future__ import annotations

import re

import pytest
from native_build import NativeBuilds, run, tool


def leaked_symbols(listing: str, rung: str) -> list[str]:
    """The symbols in a listing of `nm --defined-only` that others could link to, outside of attnlib::<rung>.

    Mangled names are read, since a demangled one begins with a template's return type: a nested name N...E
    after any number of prefixes (guard variable, vtable, typeinfo and its name, local entity of a function).
    """
    ours = re.compile(rf"_Z(?:GV|GR|T[VTISCWH]|Z)*N[rVKRO]*7attnlib{len(rung)}{rung}\d")
    leaked = []
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) < 2 or line.endswith(":"):
            continue
        kind, name = fields[-2], fields[-1]
        others_see_it = kind.isupper() or kind in "ui"  # lower case: local, but for unique globals and ifuncs
        if others_see_it and not ours.match(name):
            leaked.append(name)
    return leaked


def test_the_checker_finds_leaks() -> None:
    """A check that could not fail would be worth nothing."""
    clean = """
matmul.o:
0000000000000000 T _ZN7attnlib4avx26matmulEPKfS2_Pfi
0000000000000000 W _ZN7attnlib4avx24tileILi8EEEvPf
0000000000000000 V _ZTIN7attnlib4avx26KernelE
0000000000000000 V _ZTVN7attnlib4avx26KernelE
0000000000000000 u _ZGVZN7attnlib4avx25tableEvE5cache
0000000000000000 u _ZZN7attnlib4avx25tableEvE5cache
0000000000000000 R _ZN7attnlib4avx25tableE
0000000000000010 W _ZNK7attnlib4avx26Vector3sumEv
0000000000000040 t _ZSt3maxIiERKT_S2_S2_
0000000000000040 r local_constant
"""
    assert leaked_symbols(clean, "avx2") == []
    for leak in (
        "0000000000000000 W _ZSt3maxIiERKT_S2_S2_",  # std::max<int>
        "0000000000000000 W _ZSt3maxIN7attnlib4avx26VectorEERKT_S5_S5_",  # std::max<attnlib::avx2::Vector>
        "0000000000000000 W _ZNSt6vectorIfSaIfEE9push_backERKf",  # std::vector<float>::push_back
        "0000000000000000 T _ZN7attnlib6matmulEPKf",  # attnlib::matmul
        "0000000000000000 T _ZN7attnlib6avx5126matmulEPKf",  # another rung
        "0000000000000000 W _ZN7attnlib5dtype4sizeEv",  # an inline function of a shared header
        "0000000000000000 V _ZTISt9exception",  # a typeinfo of the library
        "0000000000000000 u _ZNSt5ctypeIcE2idE",
        "0000000000000000 T exported_c_function",
        "0000000000000000 i memcpy_ifunc",
        "0000000000000000 B counter",
    ):
        assert leaked_symbols(clean + leak, "avx2") == [leak.split()[-1]]
    assert leaked_symbols("0 T _ZN7attnlib16avx512_vnni_bf161fEv", "avx512") != []


@pytest.mark.build
@pytest.mark.parametrize("configuration", ["Release", "Debug"])
def test_rungs_define_nothing_outside_their_namespace(
    configuration: str, native_builds: NativeBuilds
) -> None:
    """Debug too: there nothing is inlined, so every inline function that the kernels call is emitted."""
    nm = tool("nm", "it comes with the compiler's binutils")
    folder = native_builds.build(configuration, "--target", "attnlib_kernels")

    folders = sorted(folder.glob("src/cpp/CMakeFiles/attnlib_kernels_*.dir"))
    rungs = [folder.name.removeprefix("attnlib_kernels_").removesuffix(".dir") for folder in folders]
    assert "baseline" in rungs
    for rung, folder in zip(rungs, folders, strict=True):
        objects = sorted(folder.rglob("*.o"))
        assert objects, f"no objects of rung {rung}"
        listings = {path: run(nm, "--defined-only", path) for path in objects}
        leaks = {path.name: leaked_symbols(listing, rung) for path, listing in listings.items()}
        assert not any(leaks.values()), (
            f"rung {rung} leaks { {name: found for name, found in leaks.items() if found} }"
        )
        assert any(f"7attnlib{len(rung)}{rung}" in text for text in listings.values()), (
            f"{rung} defines nothing"
        )
