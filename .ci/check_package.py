"""Check what the installed package costs: the time of its import and its size on disk."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from pathlib import Path

LARGEST_MILLISECONDS = 60.0  # beyond `import numpy`
LARGEST_MEGABYTES = 8.0
PROCESSES = 15

IMPORT = """
import time
import numpy
start = time.perf_counter()
import attnlib
print((time.perf_counter() - start) * 1e3)
"""


def import_milliseconds() -> float:
    """Return the median over fresh processes, but for the first one, which compiles to bytecode."""
    command = [sys.executable, "-c", IMPORT]
    times = [float(subprocess.check_output(command)) for _ in range(PROCESSES + 1)]
    return statistics.median(times[1:])


def main() -> None:
    """Print both figures and fail if one is too large."""
    spec = importlib.util.find_spec("attnlib")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    milliseconds = import_milliseconds()
    print(f"import attnlib: {milliseconds:.1f} ms beyond import numpy (at most {LARGEST_MILLISECONDS:.0f})")
    print(f"installed: {megabytes:.2f} MB (at most {LARGEST_MEGABYTES})")
    for library in package.glob("*.so"):
        symbols = subprocess.check_output(["nm", library], stderr=subprocess.STDOUT, text=True)
        print(f"{library.name}: {library.stat().st_size / 1e6:.2f} MB")
        if "no symbols" not in symbols:
            sys.exit(f"{library.name} is not stripped")
    if milliseconds > LARGEST_MILLISECONDS or megabytes > LARGEST_MEGABYTES:
        sys.exit("too much")


if __name__ == "__main__":
    main()
