"""tools/sanitize.py finds what sanitizers and memcheck report, and passes over what Python does by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import sanitize

REPORTS = {
    "address": """
=================================================================
==7==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x60e000000090 at pc 0x7f bp 0x7f sp 0x7f
READ of size 64 at 0x60e000000090 thread T0
""",
    "undefined": "../../src/cpp/ops/softmax.cpp:70:5: runtime error: signed integer overflow\n",
    "leak": """
Direct leak of 320 byte(s) in 2 object(s) allocated from:
    #0 operator new[](unsigned long) ../asan_new_delete.cpp:98 /usr/lib/libasan.so
    #1 attnlib::make() ../../src/cpp/ops/softmax.cpp:4 /package/attnlib/_core.cpython-311-x86_64-linux-gnu.so
    #2 <null> <null> /lib/libffi.so.8
""",
    "memcheck": """
==7== Conditional jump or move depends on uninitialised value(s)
==7==    at 0x49E04DA: compare (compare.c:71)
==7==  Uninitialised value was created by a heap allocation
==7==    by 0xCAD8A11: attnlib::bindings::Output::Output(int) (ndarray.cpp:70)
==7==\x20
""",
}
PYTHONS_OWN = {
    "leak": """
Direct leak of 320 byte(s) in 2 object(s) allocated from:
    #0 malloc ../asan_malloc_linux.cpp:69 /usr/lib/libasan.so
    #1 PyObject_Malloc Objects/obmalloc.c:694 /usr/lib/libpython3.11.so.1.0
    #2 PyList_New Objects/listobject.c:159 /usr/lib/libpython3.11.so.1.0
    #3 call bindings/module.cpp:1 /package/attnlib/_core.cpython-311-x86_64-linux-gnu.so
""",
    "memcheck": """
==7== Use of uninitialised value of size 8
==7==    at 0x49E0569: Py_INCREF (object.h:502)
==7==\x20
==7== ERROR SUMMARY: 1 errors from 1 contexts (suppressed: 0 from 0)
""",
}
RACE = """==================
WARNING: ThreadSanitizer: data race (pid=7)
  Write of size 8 at 0x7f78f6120000 by thread T4:
==================
"""


@pytest.mark.parametrize("kind", REPORTS)
def test_reports(kind: str, tmp_path: Path) -> None:
    (tmp_path / "log.7").write_text(REPORTS[kind], encoding="utf-8")
    assert len(sanitize.take_reports(tmp_path)) == 1
    assert sanitize.take_reports(tmp_path) == []


@pytest.mark.parametrize("kind", PYTHONS_OWN)
def test_what_python_does(kind: str, tmp_path: Path) -> None:
    (tmp_path / "log.7").write_text(PYTHONS_OWN[kind], encoding="utf-8")
    assert sanitize.take_reports(tmp_path) == []


def test_each_race_counts(tmp_path: Path) -> None:
    (tmp_path / "thread.7").write_text(2 * RACE, encoding="utf-8")
    (tmp_path / "thread.8").write_text(RACE, encoding="utf-8")
    assert len(sanitize.take_reports(tmp_path)) == 3
