"""C++ programs that find the installed library with `find_package(attnlib)`, compiled and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from native_build import NativeBuilds, build, configure, run, tool

PROGRAM = Path(__file__).parent / "cpp_consumer"
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cpp.md"
PUBLIC_HEADERS = Path(__file__).parent.parent / "src" / "cpp" / "include" / "attnlib"


def test_public_headers_include_only_each_other() -> None:
    if not PUBLIC_HEADERS.is_dir():
        pytest.skip("away from the source tree")
    headers = {f"attnlib/{path.name}" for path in PUBLIC_HEADERS.iterdir()}
    main = (PROGRAM / "main.cpp").read_text(encoding="utf-8")
    for path in PUBLIC_HEADERS.iterdir():
        assert set(re.findall(r'#include "(.*)"', path.read_text(encoding="utf-8"))) <= headers, path.name
    assert set(re.findall(r'#include "(.*)"', main)) == headers, "the program compiles every header"


@pytest.mark.build
def test_a_program_that_finds_the_package(native_builds: NativeBuilds, tmp_path: Path) -> None:
    library = native_builds.build("Release")
    prefix, program = tmp_path / "prefix", tmp_path / "program"
    run(tool("cmake", 'pip install ".[test]"'), "--install", library, "--prefix", prefix)
    installed = {path.name for path in prefix.rglob("*") if path.is_file()}
    assert {"libattnlib.a", "matmul.hpp", "attnlib-config.cmake", "attnlib-config-version.cmake"} <= installed
    assert not any(name.endswith((".so", ".py", ".o")) for name in installed)

    configure(PROGRAM, program, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_BUILD_TYPE=Release")
    build(program)
    printed = run(program / "consumer")
    assert "baseline, 2 threads" in printed
    assert "matmul: the last axis of a (3) must match" in printed

    # The example of docs/reference/cpp.md, which shows its output, too.
    blocks = dict(re.findall(r"^```(cmake|cpp|text)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S))
    example, built = tmp_path / "example", tmp_path / "example_build"
    example.mkdir()
    (example / "CMakeLists.txt").write_text(blocks["cmake"], encoding="utf-8")
    (example / "main.cpp").write_text(blocks["cpp"], encoding="utf-8")
    configure(example, built, f"-DCMAKE_PREFIX_PATH={prefix}")
    build(built)
    assert run(built / "program") == blocks["text"]
