"""The process that a benchmark runs in: its environment says how many threads, before NumPy is loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

from attnlib.benchmark.options import Options
from attnlib.benchmark.threads import thread_environment

__all__ = ["run_in_child"]

# The child finds its modules where this process found them, wherever it is started.
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from attnlib.benchmark.run import main
sys.exit(main(sys.argv[2]))
"""


def run_in_child(options: Options) -> int:
    """Run the benchmark in a process of its own; its exit code."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), options.to_json()]
    environment = {**os.environ, **thread_environment(options.threads)}
    with subprocess.Popen(command, env=environment) as child:
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                # The terminal has told the child too: it writes what it has and ends.
                continue
