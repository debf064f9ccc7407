"""What gunicorn serves in test_gunicorn.py: attention of queries that the path numbers, as a checksum."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import attnlib as al
from attnlib import nn

StartResponse = Callable[[str, list[tuple[str, str]]], Any]

al.set_num_threads(2)
_rng = np.random.default_rng(0)
_layer = nn.TransformerEncoderLayer(64, 4, 128, rng=_rng)
_x = _rng.standard_normal((4, 200, 64), dtype=np.float32)


def digest(number: int) -> str:
    """Encode texts' stand-ins: the layer, then attention over its result."""
    out = _layer(_x + np.float32(number))
    heads = out.reshape(4, 200, 4, 16).swapaxes(1, 2)
    return hashlib.sha256(al.attention(heads, heads, heads, causal=True).tobytes()).hexdigest()


warm = digest(0)  # under --preload the master has computed, in parallel, before it forks


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer "/7" with the worker's process id, its threads and digest(7)."""
    result = digest(int(environ["PATH_INFO"].strip("/")))
    record = al.last_dispatch()
    assert record is not None
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {record.threads} {result}".encode()]
