"""Loading a model takes little more memory than the packed model: the process's peak shows it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from processes import RunPython

from . import decoders

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc"),
]

# A small model is loaded first, so that code that is read, and tables that it makes once, do not count.
PROGRAM = """
import json
import numpy as np
import attnlib.models

def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

def packed(model):
    decoder = model.decoder
    values = [parameter.value for _, parameter in decoder.named_parameters()]
    return sum(value.nbytes for value in (*values, *decoder._head))

small = attnlib.models.load({small!r}, dtype={dtype!r})
small.generate("Hello", max_new_tokens=2)
before = peak()
model = attnlib.models.load({path!r}, dtype={dtype!r})
cache = model.decoder.cache(1, 64)
model.decoder.hidden(np.array([[1, 2, 3]]), cache)
print(json.dumps([peak() - before, packed(model), cache.nbytes]))
"""


@pytest.mark.parametrize("dtype", ["int4", "int8", "bfloat16"])
def test_the_peak(dtype: str, smollm: Path, tmp_path: Path, run_python: RunPython) -> None:
    """At most 1.3 times the packed weights, and the cache; the tokenizer and all else are in the 0.3."""
    small = decoders.write_gguf(tmp_path / "small.gguf")
    program = PROGRAM.format(small=str(small), path=str(smollm), dtype=dtype)
    grown, packed, cache = json.loads(run_python(program).stdout)
    assert packed > 75 * 2**20
    assert grown <= 1.3 * packed + cache, f"{grown / 2**20:.1f} MB for {packed / 2**20:.1f} MB of weights"
