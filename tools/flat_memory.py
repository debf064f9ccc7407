"""Makes very many calls of changing shapes and fails unless the resident memory stays where it was.

    python tools/flat_memory.py --calls 1000000

Every operation takes part, on one and two threads, with errors among the calls, packed weights that come and
go, and `attnlib.trim` now and then. The first fifth warms up; what counts is the growth from there on.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np

import attnlib as al

MOST_GROWTH = (
    4 << 20
)  # bytes: what malloc's holes move about, whether there are thousands of calls or a million


def resident() -> int:
    """Read the process's resident bytes from /proc."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


class Caller:
    """Calls operations with shapes drawn at random from arrays that stay."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.heads = self.rng.standard_normal((1, 8, 96, 32), dtype=np.float32)
        self.rows = self.rng.standard_normal((96, 128), dtype=np.float32)
        self.weight = self.rng.standard_normal((96, 128), dtype=np.float32)
        self.packed = {name: al.pack_weight(self.weight, dtype=name) for name in ("bfloat16", "int8", "int4")}

    def call(self, number: int) -> None:
        """Make one call; which, `number` says, and how large, chance does."""
        queries, keys, rows = (int(n) for n in self.rng.integers(1, 97, 3))
        query, key = self.heads[:, :, :queries], self.heads[:, :4, :keys]
        x = self.rows[:rows]
        match number % 12:
            case 0 | 1:
                al.attention(query, key, key, causal=number % 2 == 0, return_lse=True)
            case 2:
                al.attention(query[:, :, :1], key, key, return_weights=True)
            case 3:
                al.linear(x, self.packed[("bfloat16", "int8", "int4")[number % 3]], activation="gelu")
            case 4:
                al.matmul(x, self.weight[:keys].T)
            case 5:
                al.softmax(x, axis=number % 2)
            case 6:
                al.layer_norm(x, residual=x)
            case 7:
                al.swiglu(x, al.gelu(x))
            case 8:
                with contextlib.suppress(ValueError):
                    al.attention(query, key[..., :31], key)
            case 9:
                with contextlib.suppress(TypeError):
                    al.matmul(x, np.arange(3))
            case 10:
                al.pack_weight(self.weight[:rows], dtype=("float32", "int8", "int4")[number % 3])
            case 11:
                al.rotary_embedding(
                    query, key[0, 0, :, :16], key[0, 0, :, :16], positions=np.arange(queries) % keys
                )


def main() -> None:
    """Run the calls and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=1_000_000, help="default 1,000,000")
    calls = parser.parse_args().calls
    caller = Caller()
    before, began = 0, time.monotonic()
    for number in range(calls):
        if number % 5000 == 0:
            al.set_num_threads(1 + number // 5000 % 2)
        if number == calls // 5:
            before = resident()
        if number % 50_000 == 49_999:
            al.trim()
        caller.call(number)
    growth = resident() - before
    took = time.monotonic() - began
    print(f"{calls:,} calls in {took:.0f} s: {before / 2**20:.1f} MB, {growth / 2**20:+.2f} MB afterwards")
    if growth > MOST_GROWTH:
        raise SystemExit(f"memory grew by more than {MOST_GROWTH / 2**20:.0f} MB")
    print("flat")


if __name__ == "__main__":
    main()
