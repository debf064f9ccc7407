"""A KV cache and lists of tokens go through the same steps and must hold the same."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import attnlib as al
from attnlib import nn

from .calls import Draw
from .finding import Finding
from .spoiling import spoil

__all__ = ["walk"]

# For each layer, for each sequence, the tokens' keys, (G, D) each.
_Tokens = list[list[list[NDArray[Any]]]]


def walk(draw: Draw, notes: list[str]) -> None:
    """Take a cache through random steps, some of which it must refuse unchanged."""
    sizes: dict[str, Any] = {
        "num_layers": int(draw.rng.integers(1, 4)),
        "batch_size": int(draw.rng.integers(0, 4)),
        "num_kv_heads": int(draw.rng.integers(1, 4)),
        "head_dim": draw.size(17),
        "max_length": draw.pick((None, None, 9, 30)),
        "capacity": draw.pick((0, 1, 16)),
        "dtype": draw.pick(("float32", "float64", "float16", "bfloat16", "int8")),
    }
    if draw.chance(0.15):
        name = draw.pick(list(sizes))
        sizes[name] = spoil(draw.rng, sizes[name])
    notes.append(f"KVCache({sizes})")
    if any(isinstance(x, (int, float)) and x > 1 << 10 for x in sizes.values()):
        return  # that much memory is what was asked for
    try:
        cache = nn.KVCache(**sizes)
    except (TypeError, ValueError):
        return
    given = np.dtype(np.float32) if cache.dtype == np.int8 else cache.dtype
    tokens: _Tokens = [[[] for _ in range(cache.batch_size)] for _ in range(cache.num_layers)]
    for _ in range(int(draw.rng.integers(1, 12))):
        cache, tokens = _step(draw, cache, tokens, given, notes)
        _check(cache, tokens)


def _step(
    draw: Draw, cache: nn.KVCache, tokens: _Tokens, given: Any, notes: list[str]
) -> tuple[nn.KVCache, _Tokens]:
    kind = draw.pick(
        (
            "append",
            "append",
            "attend",
            "wrong",
            "wrong",
            "truncate",
            "reorder",
            "fork",
            "join",
            "save",
            "reset",
        )
    )
    notes.append(kind)
    batch, heads, size = cache.batch_size, cache.num_kv_heads, cache.head_dim
    count = int(draw.rng.integers(0, 6))
    new = draw.rng.integers(0, count + 1, batch) if draw.chance(0.4) else None
    arguments: dict[str, Any] = {
        "layer": int(draw.rng.integers(cache.num_layers)) if cache.num_layers else 0,
        "key": draw.array(batch, heads, count, size, dtype=given),
        "value": draw.array(batch, heads, count, size, dtype=given),
        "new_lengths": new,
    }
    match kind:
        case "append" if cache.num_layers:
            try:
                cache.append(**arguments)
            except ValueError:
                lengths = [len(row) for row in tokens[arguments["layer"]]]
                most = max(
                    (n + c for n, c in zip(lengths, [count] * batch if new is None else new, strict=True)),
                    default=0,
                )
                if cache.max_length is None or most <= cache.max_length:
                    raise
            else:
                for row in range(batch):
                    for place in range(count if new is None else int(new[row])):
                        tokens[arguments["layer"]][row].append(arguments["key"][row, :, place].copy())
        case "attend" if cache.num_layers:
            _attend(draw, cache, tokens, arguments)
        case "wrong":
            name = draw.pick(list(arguments))
            arguments[name] = spoil(draw.rng, arguments[name])
            if isinstance(arguments[name], np.ndarray) and arguments[name].size > 1 << 22:
                return cache, tokens
            before = copy.deepcopy(cache)
            try:
                cache.append(**arguments)
            except (TypeError, ValueError, IndexError):
                return cache, tokens
            return before, tokens  # it was right after all
        case "truncate":
            length = draw.pick((int(draw.rng.integers(0, 9)), draw.rng.integers(0, 9, batch)))
            cache.truncate(length)
            limit = np.broadcast_to(length, batch).tolist()
            tokens = [[row[:most] for row, most in zip(layer, limit, strict=True)] for layer in tokens]
        case "reorder" if batch:
            rows = draw.rng.integers(0, batch, int(draw.rng.integers(0, 4)))
            cache.reorder(rows)
            tokens = [[list(layer[row]) for row in rows] for layer in tokens]
        case "fork":
            twins = cache.fork(2)
            one, other = (draw.array(batch, heads, 1, size, dtype=given) for _ in range(2))
            if cache.num_layers and (
                cache.max_length is None or cache.max_length > max(map(len, tokens[0]), default=0)
            ):
                twins[0].append(0, one, other)
            cache = twins[1]
        case "join":
            cache = nn.KVCache.join([cache, cache])
            tokens = [[list(row) for row in (*layer, *layer)] for layer in tokens]
        case "save":
            with tempfile.TemporaryDirectory() as folder:
                cache.save(Path(folder) / "cache")
                cache = nn.KVCache.load(Path(folder) / "cache")
        case "reset":
            cache.reset()
            tokens = [[[] for _ in layer] for layer in tokens]
    return cache, tokens


def _attend(draw: Draw, cache: nn.KVCache, tokens: _Tokens, arguments: dict[str, Any]) -> None:
    """Append and attend in one call, which gives the very bits of the two."""
    layer, key, value = (arguments[name] for name in ("layer", "key", "value"))
    heads = cache.num_kv_heads * int(draw.rng.integers(1, 3))
    query = draw.array(cache.batch_size, heads, key.shape[2], cache.head_dim, dtype=key.dtype)
    scale = draw.pick((None, 0.3))
    apart = copy.deepcopy(cache)
    most = max(map(len, tokens[layer]), default=0) + key.shape[2]
    try:
        found = cache.attend(layer, query, key, value, scale=scale)
    except ValueError:
        if cache.max_length is None or most <= cache.max_length:
            raise
        return
    keys, values, lengths = apart.append(layer, key, value)
    wanted = al.attention(query, keys, values, causal=True, key_lengths=lengths, scale=scale)
    if np.ascontiguousarray(wanted.swapaxes(1, 2)).tobytes() != found.tobytes():
        raise Finding("attend gives other bits than append and attention")
    for row, sequence in enumerate(tokens[layer]):
        sequence += [key[row, :, place].copy() for place in range(key.shape[2])]


def _check(cache: nn.KVCache, tokens: _Tokens) -> None:
    for number, layer in enumerate(tokens):
        keys, _, lengths = cache.read(number)
        if lengths.tolist() != [len(row) for row in layer]:
            raise Finding(f"lengths are {lengths}, not {[len(row) for row in layer]}")
        for row, wanted in enumerate(layer):
            for place, token in enumerate(wanted):
                found = keys[row, :, place].astype(np.float64)
                exact = token.astype(np.float64)
                # int8: half a step of the largest of a token and head, and what float32 rounds.
                slack = (
                    np.abs(exact).max(-1, initial=0.0, keepdims=True) / 253 if cache.dtype == np.int8 else 0.0
                )
                if not (np.abs(found - exact) <= slack).all():
                    raise Finding(f"token {place} of sequence {row} is another")
