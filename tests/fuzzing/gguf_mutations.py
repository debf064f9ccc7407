"""GGUF files, changed so that they can still be read up to the change."""

from __future__ import annotations

from typing import Any

import numpy as np

from .gguf_layout import Gguf, Tensor, parse, write

__all__ = ["mutate_gguf"]

Rng = np.random.Generator

_NUMBERS = (
    0,
    1,
    2,
    3,
    -1,
    31,
    33,
    255,
    1 << 16,
    1 << 20,
    1 << 24,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    (1 << 64) - 1,
)
_FLOATS = (0.0, -1.0, 1e-9, 1e30, 3.5, float("nan"), float("inf"))
_TEXTS = (
    b"",
    b"\0",
    b"\xff",
    b"llama",
    b"gpt2",
    b"qwen2",
    b"<s>",
    b"a b",
    b"\xe2\x96\x81",
    b"<0x41>",
    b"x" * 500,
)


def mutate_gguf(rng: Rng, data: bytes) -> bytes:
    """Change fields, their types, tokens or tensors of a file; one that cannot be parsed is left as it is."""
    try:
        file = parse(data)
        while True:
            if file.fields and rng.random() < 0.7:
                _change_field(rng, file)
            elif file.tensors:
                _change_tensor(rng, file)
            if rng.random() < 0.6:
                return write(file)
    except Exception:  # a value that its new type does not have, among others
        return data


def _pick(rng: Rng, options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


def _value(rng: Rng, kind: int) -> Any:
    """Draw a value of a type."""
    if kind == 8:
        return _pick(rng, _TEXTS)
    if kind == 9:
        item = int(_pick(rng, (4, 5, 6, 8)))
        return item, [_value(rng, item) for _ in range(int(rng.integers(4)))]
    return _pick(rng, _FLOATS if kind in (6, 12) else _NUMBERS)


def _change_field(rng: Rng, file: Gguf) -> None:
    place = int(rng.integers(len(file.fields)))
    name, kind, value = file.fields[place]
    match int(rng.integers(8)):
        case 0:
            del file.fields[place]
        case 1:
            kind = int(_pick(rng, (*range(13), 13, 99)))
            file.fields[place] = name, kind, _value(rng, kind)
        case 2:
            file.fields.append((name, kind, _value(rng, kind)))  # twice
        case 3:
            file.fields[place] = name + b"x", kind, value
        case 4:
            other, _, taken = _pick(rng, file.fields)
            file.fields.append((other, kind, value) if rng.random() < 0.5 else (name, kind, taken))
        case _ if kind == 9 and value[1]:
            file.fields[place] = name, kind, _other_items(rng, *value)
        case _:
            file.fields[place] = name, kind, _value(rng, kind)


def _other_items(rng: Rng, item: int, items: list[Any]) -> tuple[int, list[Any]]:
    items = list(items)
    place = int(rng.integers(len(items)))
    match int(rng.integers(6)):
        case 0:
            del items[place]
        case 1:
            items.insert(place, _value(rng, item))
        case 2:
            items[place] = _pick(rng, items)
        case 3:
            del items[place:]
        case 4:
            items = items[:place] + items
        case _:
            for _ in range(int(rng.integers(1, 4))):
                items[int(rng.integers(len(items)))] = _value(rng, item)
    return item, items


def _change_tensor(rng: Rng, file: Gguf) -> None:
    place = int(rng.integers(len(file.tensors)))
    tensor = file.tensors[place]
    axis = int(rng.integers(len(tensor.shape))) if tensor.shape else None
    match int(rng.integers(9)):
        case 0:
            del file.tensors[place]
        case 1:
            file.tensors.append(Tensor(tensor.name, list(tensor.shape), tensor.kind, tensor.offset))
        case 2 if axis is not None:
            tensor.shape[axis] = int(_pick(rng, _NUMBERS))
        case 3:
            tensor.shape.insert(0, int(_pick(rng, (0, 1, 2, 1 << 40))))
        case 4:
            tensor.shape = tensor.shape[::-1]
        case 5:
            tensor.kind = int(rng.integers(0, 42))
        case 6:
            tensor.offset += int(_pick(rng, (1, 2, 4, 32, -1, -32, 1 << 20, 1 << 63)))
        case 7 if axis is not None:
            tensor.shape[axis] += int(rng.integers(-2, 3))
        case _:
            tensor.name = _pick(
                rng, (tensor.name + b"x", b"", b"output.weight", _pick(rng, file.tensors).name)
            )
