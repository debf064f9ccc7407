"""Makes very many calls of changing shapes and fails unless the resident memory stays where it was.

    python tools/flat_memory.py --calls 1000000

Every operation of `attnlib.functional` takes part, on one and two threads, with errors among the calls,
packed weights and a cache that come and go, a tensor of DLPack, and `attnlib.trim` now and then. Layers,
models and files do not. The first fifth warms up; what counts is the growth from there on.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import numpy as np

import attnlib as al
from attnlib import functional, nn

MOST_GROWTH = (
    4 << 20
)  # bytes: what malloc's holes move about, whether there are thousands of calls or a million


def resident() -> int:
    """Read the process's resident bytes from /proc."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


WEIGHTS = ("bfloat16", "int8", "int4")
ACTIVATIONS = (al.relu, al.sigmoid, al.silu, al.tanh)

# Of calls.
KINDS = 24


class Caller:
    """Calls operations with shapes drawn at random from arrays that stay."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.heads = self.rng.standard_normal((1, 8, 96, 32), dtype=np.float32)
        self.rows = self.rng.standard_normal((96, 128), dtype=np.float32)
        self.weight = self.rng.standard_normal((96, 128), dtype=np.float32)
        self.packed = {name: al.pack_weight(self.weight, dtype=name) for name in WEIGHTS}
        self.table = self.heads[0, 0, :, :16]
        # For sublayers of 32 features and heads of 16.
        self.square, self.wide, self.tall = (al.pack_weight(self.weight[:rows, :32]) for rows in (32, 64, 96))
        self.norm, self.steps = np.ones(32, np.float32), np.zeros((1, 32), np.float32)
        weights = (self.tall, None, self.square, None, self.square, None, self.square, None)
        norms = (self.norm, None, 1e-5, self.norm, None, 1e-5)
        self.layer = functional.EncoderLayerParts(*weights, *norms, 2, "gelu", False)
        self.lstm = al.pack_weight(self.weight[:96, :24])
        self.down = al.pack_weight(self.weight[:32, :48])
        self.cache = nn.KVCache(1, 1, 4, 32)

    def call(self, number: int) -> None:
        """Make one call; which, `number` says, and how large, chance does."""
        queries, keys, rows = (int(n) for n in self.rng.integers(1, 97, 3))
        kind, turn = number % KINDS, number // KINDS
        (self._operation if kind < 14 else self._fused)(kind, turn, queries, keys, rows)

    def _operation(self, kind: int, turn: int, queries: int, keys: int, rows: int) -> None:
        query, key = self.heads[:, :, :queries], self.heads[:, :4, :keys]
        x = self.rows[:rows]
        match kind:
            case 0 | 1:
                al.attention(query, key, key, causal=kind == 0, return_lse=True)
            case 2:
                al.attention(query[:, :, :1], key, key, return_weights=True)
            case 3:
                al.linear(x, self.packed[WEIGHTS[turn % 3]], activation="gelu")
            case 4:
                al.matmul(x, self.weight[:keys].T)
            case 5:
                (al.softmax if turn % 4 < 2 else al.log_softmax)(x, axis=turn % 2)
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
                al.pack_weight(self.weight[:rows], dtype=("float32", "int8", "int4")[turn % 3])
            case 11:
                table = self.table[:keys]
                al.rotary_embedding(query, table, table, positions=np.arange(queries) % keys)
            case 12:
                al.rms_norm(ACTIVATIONS[turn % 4](x), residual=x)
            case 13:
                al.sinusoidal_encoding(rows, 32)

    def _fused(self, kind: int, turn: int, queries: int, keys: int, rows: int) -> None:
        x, heads = self.rows[:rows, :32], self.heads[0]
        match kind:
            case 14 | 15:
                packed = heads[:, :rows].swapaxes(0, 1)
                offsets = np.array([0, min(queries, rows), rows])
                al.attention_varlen(packed, packed, packed, offsets, causal=kind == 14, return_lse=True)
            case 16:
                part = heads[:2, :queries], heads[:2, :queries, 0]
                al.merge_attention([part[0], part[0]], [part[1], part[1]])
            case 17:
                if turn % 64 == 0:
                    # With no tokens and little room: it grows until the next.
                    self.cache = nn.KVCache(1, 1, 4, 32)
                token = self.heads[:, :4, keys - 1 : keys]
                self.cache.attend(0, self.heads[:, :, :1], token, token)
            case 18:
                functional.lstm_steps(
                    np.zeros((1, queries % 8, 96), np.float32),
                    self.lstm,
                    self.steps[:, :24],
                    self.steps[:, :24],
                )
            case 19:
                functional.encoder_layers(x, [self.layer], np.array([0, rows]), causal=turn % 2 == 0)
            case 20:
                functional.gated_feed_forward(x, self.norm, self.tall, self.down)
            case 21:
                functional.linear_in_parts(self.rows[:rows], [self.packed[name] for name in WEIGHTS])
            case 22:
                caches = np.zeros((2, 1, 1, 96, 16), np.float32)
                functional.cached_self_attention(
                    self.rows[None, :1, :32],
                    *caches,
                    np.array([keys - 1]),
                    norm_weight=self.norm,
                    in_proj=self.wide,
                    out_proj=self.square,
                    heads=2,
                    groups=1,
                )
            case 23:
                with functional.observe_attention(lambda _: None):
                    al.attention(heads[:, :1], heads[:, :keys], heads[:, :keys])
                al.softmax(al.to_dlpack(x))


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
