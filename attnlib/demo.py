"""``attnlib demo``: the operations beside plain NumPy, on arrays made up here, and a translation.

Each case is computed three times: by attnlib, by plain NumPy in float32 as one would write it, and by the
same NumPy code in float64, against which both are judged.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

import attnlib
from attnlib import nn
from attnlib.commands.translate_drawing import draw_attention
from attnlib.models.translator import load_translator

__all__ = ["run"]

Array = NDArray[Any]

# Seconds that each side of a case may take for one block of runs, and blocks of which the fastest counts.
_BLOCK = 0.12
_BLOCKS = 3
# Worker threads of BLAS and OpenMP spin for a while after their work and would slow down whoever comes next.
_REST = 0.05

_SENTENCES = ("je suis étudiant", "je ne vois pas la maison rouge de marie")


@dataclass(frozen=True)
class Case:
    """One line of the table; both functions take `inputs`."""

    name: str
    shape: str
    inputs: tuple[Array, ...]
    ours: Callable[..., Array]
    plain: Callable[..., Array]


@dataclass(frozen=True)
class Result:
    """What came of a case: largest errors, relative to the largest result, and seconds."""

    operation: str
    shape: str
    numpy_error: float
    attnlib_error: float
    numpy_seconds: float
    attnlib_seconds: float


def run(*, as_json: bool = False, encoding: str = "utf-8") -> None:
    """Run all cases and print the table, in letters that `encoding` has, or one JSON object."""
    if as_json:
        rows = [asdict(_result(case)) for case in cases(np.random.default_rng(0))]
        config = attnlib.show_config(mode="dicts")
        print(json.dumps({"config": config, "results": rows, "translations": _translations()}))
        return
    print(
        f"attnlib {attnlib.__version__}: rung {attnlib.isa()}, threads {attnlib.get_num_threads()}, float32; "
        f"beside it NumPy {np.__version__} with its BLAS"
    )
    print()
    print(f"{'':38}{'largest error':^20}  {'time, ms':^20}")
    sides = f"{'NumPy':>10}{'attnlib':>10}"
    print(f"{'operation':<20}{'shape':<18}{sides}  {sides}{'speed-up':>10}")
    for case in cases(np.random.default_rng(0)):
        found = _result(case)
        print(
            f"{found.operation:<20}{found.shape:<18}{found.numpy_error:>10.1e}{found.attnlib_error:>10.1e}"
            f"  {found.numpy_seconds * 1e3:>10.2f}{found.attnlib_seconds * 1e3:>10.2f}"
            f"{found.numpy_seconds / found.attnlib_seconds:>9.1f}x",
            flush=True,
        )
    print()
    print("Errors are against float64, relative to the largest result. Times are medians, warm.")
    print()
    _print_translations(encoding)


def _print_translations(encoding: str) -> None:
    """Show the translations, and where each of their words looked."""
    print("A Transformer that comes with attnlib, from French to English. Below each translation is its")
    print("cross-attention: for each word that was written (rows), the words that it looked at (columns).")
    for found in _translations():
        print()
        line = f"{found['french']}: {found['english']} ({found['seconds'] * 1e3:.0f} ms)"
        print(line.encode(encoding, "replace").decode(encoding))
        print(draw_attention(found["source"], found["target"], found["weights"], encoding=encoding))


def _translations() -> list[dict[str, Any]]:
    translator = load_translator()
    found = []
    for french in _SENTENCES:
        translator.translate(french)  # warms up
        start = time.perf_counter()
        english = translator.translate(french)
        seconds = time.perf_counter() - start
        alignment = translator.align(french)
        words = {"source": alignment.source, "target": alignment.target, "weights": alignment.mean.tolist()}
        found.append({"french": french, "english": english, "seconds": seconds, **words})
    return found


def _result(case: Case) -> Result:
    exact = case.plain(*(array.astype(np.float64) for array in case.inputs))
    plain, ours = (_error(function(*case.inputs), exact) for function in (case.plain, case.ours))
    return Result(case.name, case.shape, plain, ours, *_times(case))


def cases(rng: np.random.Generator) -> list[Case]:
    """Make the cases. Letters: B batch, H heads, S tokens, d size of a token."""

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape, dtype=np.float32)

    weight, bias = normal(3072, 768) * np.float32(768**-0.5), normal(3072)
    packed = attnlib.pack_weight(weight)
    gain, shift = normal(768), normal(768)
    heads = (normal(4, 12, 256, 64), normal(4, 12, 256, 64), normal(4, 12, 256, 64))
    long = (normal(1, 8, 1024, 64), normal(1, 8, 1024, 64), normal(1, 8, 1024, 64))
    layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", rng=rng)
    state = layer.state_dict()
    return [
        Case("matmul", "512x768 768x768", (normal(512, 768), normal(768, 768)), attnlib.matmul, np.matmul),
        Case(
            "linear + gelu",
            "512x768 to 3072",
            (normal(512, 768),),
            lambda x: attnlib.linear(x, packed, bias, activation="gelu"),
            lambda x: _gelu(x @ weight.T.astype(x.dtype, copy=False) + bias),
        ),
        Case("softmax", "6144x512", (normal(6144, 512),), attnlib.softmax, _softmax),
        Case(
            "layer_norm",
            "4096x768",
            (normal(4096, 768),),
            lambda x: attnlib.layer_norm(x, gain, shift),
            lambda x: _layer_norm(x, gain, shift),
        ),
        Case("gelu (exact)", "4096x768", (normal(4096, 768),), attnlib.gelu, _gelu),
        Case("attention", "B4 H12 S256 D64", heads, attnlib.attention, _attention),
        Case(
            "attention, causal",
            "B1 H8 S1024 D64",
            long,
            lambda q, k, v: attnlib.attention(q, k, v, causal=True),
            lambda q, k, v: _attention(q, k, v, causal=True),
        ),
        Case(
            "encoder layer",
            "B4 S128 d768",
            (normal(4, 128, 768),),
            layer,
            lambda x: _encoder_layer(
                x, {k: v.astype(x.dtype, copy=False) for k, v in state.items()}, heads=12
            ),
        ),
    ]


def _error(found: Array, exact: Array) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def _times(case: Case) -> tuple[float, float]:
    """Seconds of plain NumPy and of attnlib: the fastest of several blocks' medians, in turns."""
    best = [math.inf, math.inf]
    for _ in range(_BLOCKS):
        for side, function in enumerate((case.plain, case.ours)):
            time.sleep(_REST)
            best[side] = min(best[side], _block(function, case.inputs))
    return best[0], best[1]


def _block(function: Callable[..., Array], inputs: tuple[Array, ...]) -> float:
    function(*inputs)  # wakes threads, warms caches
    samples: list[float] = []
    end = time.perf_counter() + _BLOCK
    while len(samples) < 3 or (time.perf_counter() < end and len(samples) < 50):
        start = time.perf_counter()
        function(*inputs)
        samples.append(time.perf_counter() - start)
    return median(samples)


_exact_erf = np.frompyfunc(math.erf, 1, 1)


def _erf(x: Array) -> Array:
    if x.dtype == np.float64:
        return np.asarray(_exact_erf(x), dtype=np.float64)
    # NumPy has no erf. Abramowitz and Stegun, 7.1.26, whose error of 1.5e-7 is that of float32.
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    polynomial = t * (
        np.float32(0.254829592)
        + t
        * (
            np.float32(-0.284496736)
            + t * (np.float32(1.421413741) + t * (np.float32(-1.453152027) + t * np.float32(1.061405429)))
        )
    )
    result: Array = np.copysign(1 - polynomial * np.exp(-size * size), x)
    return result


def _gelu(x: Array) -> Array:
    half, root = x.dtype.type(0.5), x.dtype.type(math.sqrt(0.5))
    result: Array = x * (1 + _erf(x * root)) * half
    return result


def _softmax(x: Array) -> Array:
    exponentials: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    exponentials /= exponentials.sum(axis=-1, keepdims=True)
    return exponentials


def _layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    result: Array = centred / np.sqrt(variance + x.dtype.type(1e-5)) * weight + bias
    return result


def _attention(query: Array, key: Array, value: Array, causal: bool = False) -> Array:
    scores = query @ key.swapaxes(-1, -2) * query.dtype.type(query.shape[-1] ** -0.5)
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=np.bool_), scores, -np.inf)
    result: Array = _softmax(scores) @ value
    return result


def _encoder_layer(x: Array, state: dict[str, Array], heads: int) -> Array:
    batch, length, size = x.shape
    qkv = x @ state["self_attn.in_proj_weight"].T + state["self_attn.in_proj_bias"]
    query, key, value = qkv.reshape(batch, length, 3, heads, size // heads).transpose(2, 0, 3, 1, 4)
    context = _attention(query, key, value).swapaxes(1, 2).reshape(batch, length, size)
    x = x + context @ state["self_attn.out_proj.weight"].T + state["self_attn.out_proj.bias"]
    x = _layer_norm(x, state["norm1.weight"], state["norm1.bias"])
    inner = _gelu(x @ state["linear1.weight"].T + state["linear1.bias"])
    x = x + inner @ state["linear2.weight"].T + state["linear2.bias"]
    return _layer_norm(x, state["norm2.weight"], state["norm2.bias"])
