"""The default number of threads within the CPU quotas of control groups."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import RunPython

from attnlib import _core

CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")


class System:
    """The files of /proc/self and the mounted hierarchies of a machine that is made up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def quota(self, version: int, group: str, quota: str, period: str = "100000") -> None:
        place = self.folder / f"v{version}" / group.strip("/")
        place.mkdir(parents=True, exist_ok=True)
        if version == 2:
            (place / "cpu.max").write_text(f"{quota} {period}\n", encoding="ascii")
        else:
            (place / "cpu.cfs_quota_us").write_text(f"{quota}\n", encoding="ascii")
            (place / "cpu.cfs_period_us").write_text(f"{period}\n", encoding="ascii")

    def cpus(self, cgroup: str, *, root: str = "/") -> float | None:
        """What is found for a process with this /proc/self/cgroup, the mounts having this root."""
        process = self.folder / "self"
        process.mkdir(exist_ok=True)
        (process / "cgroup").write_text(cgroup, encoding="ascii")
        point = str(self.folder).replace(" ", "\\040")
        (process / "mountinfo").write_text(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            f"30 22 0:27 {root} {point}/v2 rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
            f"31 22 0:28 / {point}/pids rw master:2 shared:3 - cgroup cgroup rw,pids\n"
            f"32 22 0:29 {root} {point}/v1 rw - cgroup cgroup rw,cpuacct,cpu\n",
            encoding="ascii",
        )
        return _core.cgroup_cpus(str(process))


@pytest.fixture
def system(tmp_path: Path) -> System:
    folder = tmp_path / "a machine"  # mountinfo escapes the space
    folder.mkdir()
    return System(folder)


def test_version_2(system: System) -> None:
    system.quota(2, "/", "max")
    system.quota(2, "/app.slice/web", "150000")
    assert system.cpus("0::/app.slice/web\n") == 1.5
    assert system.cpus("0::/app.slice\n") is None


def test_version_1(system: System) -> None:
    system.quota(1, "/docker/1a", "50000", "20000")
    system.quota(1, "/docker", "-1")
    assert system.cpus("7:pids:/docker/1a\n4:cpuacct,cpu:/docker/1a\n1:name=systemd:/x\n0::/\n") == 2.5
    assert system.cpus("4:cpuacct,cpu:/docker\n") is None
    assert system.cpus("3:cpuset:/docker/1a\n") is None


def test_the_groups_around_it_count(system: System) -> None:
    system.quota(2, "/pod", "200000")
    system.quota(2, "/pod/container", "400000")
    system.quota(2, "/pod/container/worker", "max")
    assert system.cpus("0::/pod/container/worker\n") == 2.0
    system.quota(1, "/pod", "100000")  # both hierarchies at once
    assert system.cpus("0::/pod/container\n2:cpu:/pod\n") == 1.0


def test_in_a_container(system: System) -> None:
    """Its own group is mounted: /proc/self/cgroup tells the path on the host, "/", or one that leads out."""
    system.quota(2, "/", "300000")
    for path in ("/docker/1a", "/", "/../..", "/../other"):
        assert system.cpus(f"0::{path}\n", root="/docker/1a" if path == "/docker/1a" else "/") == 3.0
    system.quota(2, "/inner", "100000")
    assert system.cpus("0::/docker/1a/inner\n", root="/docker/1a") == 1.0
    assert system.cpus("0::/docker/1abc\n", root="/docker/1a") == 3.0


@pytest.mark.parametrize("text", ["", "max", "x y", "-1 100000", "100000", "0 100000", "100000 0", "\0\0"])
def test_nonsense_is_no_quota(system: System, text: str) -> None:
    system.quota(2, "/a", "max")
    (system.folder / "v2" / "a" / "cpu.max").write_text(text, encoding="ascii")
    assert system.cpus("0::/a\n") is None


@pytest.mark.parametrize("cgroup", ["", "nonsense\n", "::\n", "0:\n", "0::\n", ":::::\n", "0::relative\n"])
def test_nonsense_is_no_group(system: System, cgroup: str) -> None:
    assert system.cpus(cgroup) is None


def test_nothing_is_there(tmp_path: Path) -> None:
    assert _core.cgroup_cpus(str(tmp_path / "missing")) is None


@contextlib.contextmanager
def real_group(cpus: float) -> Iterator[Path]:
    """A control group of this machine, with a quota."""
    for base, version in ((Path("/sys/fs/cgroup"), 2), (Path("/sys/fs/cgroup/cpu"), 1)):
        group = base / f"attnlib-test-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            name, text = ("cpu.max", "{} 100000") if version == 2 else ("cpu.cfs_quota_us", "{}")
            if (group / name).is_file():
                (group / name).write_text(text.format(int(cpus * 100000)), encoding="ascii")
                yield group
                return
        finally:
            group.rmdir()
    pytest.skip("no control group with the CPU controller can be made here (root, a writable hierarchy)")


@pytest.mark.parametrize(("quota", "threads"), [(0.5, 1), (1.0, 1), (1.5, 2)])
def test_a_real_group(quota: float, threads: int, run_python: RunPython) -> None:
    with real_group(quota) as group:
        code = f"""
import os, pathlib
pathlib.Path({str(group)!r}, "cgroup.procs").write_text(str(os.getpid()))
import attnlib
print(attnlib.get_num_threads())
"""
        result = run_python(code, env={"OMP_NUM_THREADS": None})
    assert int(result.stdout) == min(threads, CPUS)
