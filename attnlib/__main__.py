"""``python -m attnlib``: the command line."""

import sys

from attnlib.cli import main

sys.exit(main())
