"""The native library compiled anew, for the tests marked `build`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parent.parent
SEARCH_PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))


def tool(name: str, package: str) -> str:
    """The path of a program that must be there."""
    path = shutil.which(name, path=SEARCH_PATH)
    assert path, f"{name} is needed: {package}"
    return path


def run(*command: str | Path) -> str:
    """The standard output of a tool that must succeed."""
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


def configure(source: Path, folder: Path, *options: str) -> None:
    """Prepare `folder` for building."""
    ninja = shutil.which("ninja", path=SEARCH_PATH)
    generator = ("-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}") if ninja else ()
    run(tool("cmake", 'pip install ".[test]"'), "-S", source, "-B", folder, *generator, *options)


def build(folder: Path, *options: str) -> None:
    """Compile on all CPUs."""
    run(
        tool("cmake", 'pip install ".[test]"'),
        *("--build", folder, "--parallel", str(os.cpu_count() or 1)),
        *options,
    )


class NativeBuilds:
    """A folder for each configuration, in which what one test compiled is there for the next."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent

    def build(self, configuration: str, *options: str) -> Path:
        """Compile the library without its bindings, or `options`, and return the folder."""
        folder = self.parent / configuration
        if not folder.exists():
            configure(
                SOURCE,
                folder,
                f"-DCMAKE_BUILD_TYPE={configuration}",
                "-DATTNLIB_BUILD_BINDINGS=OFF",
                "-DATTNLIB_WARNINGS_AS_ERRORS=ON",
            )
        build(folder, *options)
        return folder
