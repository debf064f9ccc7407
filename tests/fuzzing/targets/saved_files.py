"""What attnlib saves: KV caches and packed weights."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import attnlib as al
from attnlib import nn

from ..finding import Finding
from ..json_mutations import mutate_json
from ..mutations import mutate_bytes
from .reader import ReaderTarget, Rng

__all__ = ["SavedFiles"]


def _cache(dtype: str, folder: Path) -> None:
    rng = np.random.default_rng(0)
    cache = nn.KVCache(2, 2, 2, 4, window=6, max_length=12, dtype=dtype)
    given = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype("float32" if dtype == "int8" else dtype)
    for layer in range(2):
        tokens = rng.standard_normal((2, 2, 2, 5, 4)).astype(given)
        cache.append(layer, tokens[0], tokens[1], new_lengths=[5, 3])
    cache.save(folder / "cache.npz")


def _packed(folder: Path) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((9, 64)).astype(np.float32)
    formats = ("float32", "float64", "bfloat16", "int8", "int4")
    weights: dict[str, Any] = {name: al.pack_weight(weight, dtype=name) for name in formats}
    weights |= {"float16": al.pack_weight(weight.astype(np.float16)), "none": al.pack_weight(weight[:0])}
    weights |= {"bias": weight[0], "half": weight.astype(ml_dtypes.bfloat16), "number": np.array(2.0)}
    al.save_packed(folder / "weights.packed", weights)


def _mutate_npz(rng: Rng, data: bytes) -> bytes:
    """Change members of the archive, whose checksums stay right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return data
    names = list(members)
    for _ in range(int(rng.integers(1, 4))):
        name, other = (names[int(rng.integers(len(names)))] for _ in range(2))
        match int(rng.integers(6)):
            case 0:
                members.pop(name, None)
            case 1:
                members[name] = members.get(other, b"")
            case 2:
                members[name] = _numbers(rng, members.get(name, b""))
            case _:
                members[name] = mutate_bytes(rng, members.get(name, b""))
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
            if rng.random() < 0.02:
                archive.filelist[-1].file_size = int(rng.choice([0, 1 << 31, (1 << 32) - 2]))
    return stream.getvalue()


def _numbers(rng: Rng, data: bytes) -> bytes:
    """Change an array's last numbers: sizes, limits and lengths are in small ones."""
    if len(data) < 136:
        return data
    value = int(rng.choice([0, 1, 2, -1, 3, 6, 7, 100, 1 << 31, 1 << 40, 1 << 62, -(1 << 63)]))
    place = len(data) - 8 * int(rng.integers(1, min(5, (len(data) - 128) // 8) + 1))
    return data[:place] + value.to_bytes(8, "little", signed=True) + data[place + 8 :]


def _mutate_packed(rng: Rng, data: bytes) -> bytes:
    """Change the header as JSON, with its size right."""
    size = int.from_bytes(data[12:16], "little")
    header = mutate_json(rng, data[16 : 16 + size].rstrip())
    header += b" " * (-(16 + len(header)) % 64)
    return data[:12] + (len(header) & 0xFFFFFFFF).to_bytes(4, "little") + header + data[16 + size :]


class SavedFiles(ReaderTarget):
    """`KVCache.load`, and `load_packed` with the file mapped or not."""

    mutated = (".npz", ".packed")

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return the valid files."""
        caches = {
            f"cache-{dtype}": partial(_cache, dtype)
            for dtype in ("float32", "float64", "float16", "bfloat16", "int8")
        }
        return {**caches, "packed": _packed, "weights": _packed}

    def mutate(self, rng: Rng, name: str, data: bytes) -> bytes:
        """Change what the file says, or its bytes."""
        if rng.random() < 0.3:
            return mutate_bytes(rng, data)
        return _mutate_npz(rng, data) if name.endswith(".npz") else _mutate_packed(rng, data)

    def load(self, folder: Path) -> Any:
        """Read."""
        if (folder / "cache.npz").is_file():
            return nn.KVCache.load(folder / "cache.npz")
        mapped = al.load_packed(folder / "weights.packed")
        copied = al.load_packed(folder / "weights.packed", mapped=False)
        if list(mapped) != list(copied):
            raise Finding("mapped and copied weights have other names")
        return mapped, copied

    def use(self, loaded: Any) -> None:
        """Go on with the cache, multiply with the weights."""
        if isinstance(loaded, nn.KVCache):
            _use_cache(loaded)
            return
        for mapped, copied in zip(loaded[0].values(), loaded[1].values(), strict=True):
            if isinstance(mapped, np.ndarray):
                if mapped.tobytes() != copied.tobytes():
                    raise Finding("mapped and copied arrays differ")
                continue
            if mapped.shape[1] > 1 << 20:  # of no rows: our own x would be too large
                continue
            x = np.ones((2, mapped.shape[1]), np.float64 if mapped.dtype == np.float64 else np.float32)
            first, second = al.linear(x, mapped), al.linear(x, copied)
            if first.tobytes() != second.tobytes():
                raise Finding("mapped and copied weights give other products")
            mapped.unpack()


def _use_cache(cache: nn.KVCache) -> None:
    shape = (cache.batch_size, cache.num_kv_heads, 1, cache.head_dim)
    token = np.ones(shape, np.float32 if cache.dtype == np.int8 else cache.dtype)
    if (cache.lengths < 0).any() or (cache.positions < cache.lengths).any():
        raise Finding("lengths make no sense")
    for layer in range(cache.num_layers):
        key, value, lengths = cache.append(layer, token, token)
        if key.shape != value.shape or key.shape[2] != lengths.max(initial=0):
            raise Finding(f"keys are {key.shape}, lengths {lengths}")
        al.attention(token.astype(key.dtype), key, value, key_lengths=lengths)
    cache.truncate(20)
