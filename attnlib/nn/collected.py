"""What was collected from a stack of layers for one call of all of them: good until any layer changes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

__all__ = ["Watched", "collected", "layers_changed"]

_Found = TypeVar("_Found")


class _Collection(NamedTuple):
    state: object
    layers: list[weakref.ref[Any]]
    key: tuple[Any, ...]
    found: Any


# By the first layer of the stack. Neither layers nor parameters that a layer no longer has are kept alive.
_collections: weakref.WeakKeyDictionary[Any, _Collection] = weakref.WeakKeyDictionary()
_state = object()  # of all layers: another one after each change


def layers_changed() -> None:
    """Forget what was collected; to be called after a change to a layer that no attribute tells of."""
    global _state, _collections
    _state = object()
    if _collections:
        _collections = weakref.WeakKeyDictionary()


class Watched:
    """Base class of what layers consist of: an attribute that is set is a change."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        layers_changed()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        layers_changed()


def collected(
    layers: Sequence[Any], key: tuple[Any, ...], collect: Callable[[], _Found | None]
) -> _Found | None:
    """Return what `collect` finds, or found before for these layers and this key; None is not remembered."""
    state, collections = _state, _collections  # before collecting: a change meanwhile leaves it out of date
    known = collections.get(layers[0])
    if (
        known is not None
        and known.state is state
        and known.key == key
        and [layer() for layer in known.layers] == list(layers)
    ):
        found: _Found = known.found
        return found
    fresh = collect()
    if fresh is not None:
        collections[layers[0]] = _Collection(state, [weakref.ref(layer) for layer in layers], key, fresh)
    return fresh
