"""``attnlib bench --peers`` from the source tree; all further options are its own, see README.md."""

from __future__ import annotations

import sys

from attnlib.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "--peers", *sys.argv[1:]]))
