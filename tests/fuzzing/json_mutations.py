"""JSON, changed so that it still is JSON: other types, other ranges, missing and doubled keys."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

__all__ = ["mutate_json", "mutate_value"]

Rng = np.random.Generator

_NAN, _INFINITY = float("nan"), float("inf")
_INTERESTING: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    1 << 16,
    1 << 20,
    (1 << 24) - 1,
    1 << 24,
    1 << 31,
    (1 << 32) - 1,
    1 << 53,
    1 << 62,
    1 << 63,
    1 << 64,
    -(1 << 63),
    10**40,
    0.5,
    -0.0,
    1e-300,
    1e308,
    _NAN,
    _INFINITY,
    -_INFINITY,
    "",
    "0",
    "none",
    "\0",
    "\ud800",
    "ß" * 300,
    "../../etc/passwd",
    [],
    [[]],
    [0],
    {},
    {"": None},
)
# Stands for a key until the text is written, where it may be there twice.
_MARK = "\x01twice\x01"


def mutate_json(rng: Rng, data: bytes) -> bytes:
    """Change a JSON file once or a few times; what is no JSON, or too deep, is returned as it is."""
    try:
        tree = mutate_value(rng, json.loads(data))
        text = _with_a_key_twice(rng, tree) if rng.random() < 0.15 else None
        return (json.dumps(tree) if text is None else text).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return data


def mutate_value(rng: Rng, tree: Any) -> Any:
    """Change what a JSON file holds once or a few times."""
    holder = [copy.deepcopy(tree)]
    while True:
        _change(rng, holder)
        if rng.random() < 0.55:
            return holder[0]


def _nodes(holder: list[Any]) -> list[tuple[Any, Any]]:
    """List all places, as containers and keys; of a long list or table only some."""
    found: list[tuple[Any, Any]] = [(holder, 0)]
    for container, key in found:
        value = container[key]
        if isinstance(value, dict):
            keys: list[Any] = list(value)
        elif isinstance(value, list):
            keys = list(range(len(value)))
        else:
            continue
        # A vocabulary has thousands of entries and must not hide the other fields.
        if len(keys) > 24:
            keys = keys[:8] + keys[:: max(len(keys) // 8, 1)] + keys[-4:]
        found += [(value, key) for key in keys]
        if len(found) > 3000:
            break
    return found


def _change(rng: Rng, holder: list[Any]) -> None:
    nodes = _nodes(holder)
    container, key = nodes[int(rng.integers(len(nodes)))]
    value = container[key]
    match int(rng.integers(10)):
        case 0 | 1 | 2:
            container[key] = _interesting(rng)
        case 3 if container is not holder:
            del container[key]
        case 4 if isinstance(container, dict):
            container[f"{key}{'' if rng.random() < 0.3 else 's'}"] = _interesting(rng)
        case 5 if isinstance(value, (int, float)) and not isinstance(value, bool):
            container[key] = _near(rng, value)
        case 6:
            # What is elsewhere in the file, which may be the right kind of thing.
            other, place = nodes[int(rng.integers(len(nodes)))]
            if not isinstance(other[place], (dict, list)) or len(str(other[place])) < 2000:
                container[key] = copy.deepcopy(other[place])
        case 7:
            container[key] = [value] if rng.random() < 0.5 else {"value": value}
        case 8 if isinstance(value, str):
            container[key] = _other_text(rng, value)
        case 8 if isinstance(value, (list, dict)) and rng.random() < 0.1:
            deep: Any = value
            for _ in range(int(rng.choice([20, 200, 3000]))):
                deep = [deep]
            container[key] = deep
        case 8 | 9 if isinstance(value, list) and value:
            # One entry more, less, or twice.
            index = int(rng.integers(len(value)))
            value.insert(index, copy.deepcopy(value[index]) if rng.random() < 0.5 else _interesting(rng))
        case _:
            container[key] = str(value) if rng.random() < 0.3 else _interesting(rng)


def _interesting(rng: Rng) -> Any:
    return copy.deepcopy(_INTERESTING[int(rng.integers(len(_INTERESTING)))])


def _near(rng: Rng, value: float) -> float:
    changed = (value + 1, value - 1, -value, value * 2, value // 2 if value == value else 0, value * 1000)
    return changed[int(rng.integers(len(changed)))]


def _other_text(rng: Rng, text: str) -> str:
    place = int(rng.integers(len(text) + 1))
    changed = (
        text[:place],
        text[place:],
        text + text,
        text.upper(),
        text[:place] + "\U0001f600" + text[place:],
    )
    return changed[int(rng.integers(len(changed)))]


def _with_a_key_twice(rng: Rng, tree: Any) -> str | None:
    tables = [c[k] for c, k in _nodes([tree]) if isinstance(c[k], dict) and c[k]]
    if not tables:
        return None
    table = tables[int(rng.integers(len(tables)))]
    key = list(table)[int(rng.integers(len(table)))]
    table[_MARK] = _interesting(rng)
    try:
        text = json.dumps(tree)
    except (ValueError, RecursionError):
        text = None
    del table[_MARK]
    return text and text.replace(json.dumps(_MARK), json.dumps(key))
