"""What was collected from a stack of layers for one call of all of them: good until any layer changes.

Any, since a layer does not know which stacks it is in: a layer that sets an attribute in every call has all
stacks collect anew each time, which costs what it saves. Changes that go past attributes, such as
``vars(layer).update(...)``, want a call of `layers_changed`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

__all__ = ["Watched", "collected", "layers_changed"]

_Found = TypeVar("_Found")


class _Collection(NamedTuple):
    state: object
    layers: list[weakref.ref[Any]]
    key: tuple[Any, ...]
    found: Any


# By the first layer of the stack, one for each. Layers are not kept alive, and what they consisted of is
# forgotten when one of them goes.
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
        try:
            super().__setattr__(name, value)
        finally:  # whatever signal comes between the two
            layers_changed()

    def __delattr__(self, name: str) -> None:
        try:
            super().__delattr__(name)
        finally:
            layers_changed()


def _forget(_: weakref.ref[Any]) -> None:
    layers_changed()


def collected(
    layers: tuple[Any, ...], key: tuple[Any, ...], collect: Callable[[], _Found | None]
) -> _Found | None:
    """Return what `collect` finds, or found before for these layers and this key; None is not remembered."""
    state, collections = _state, _collections  # before collecting: a change meanwhile leaves it out of date
    known = collections.get(layers[0])
    if (
        known is not None
        and known.state is state
        and known.key == key
        and tuple(layer() for layer in known.layers) == layers
    ):
        found: _Found = known.found
        return found
    fresh = collect()
    if fresh is not None:
        references = [weakref.ref(layer, _forget) for layer in layers]
        collections[layers[0]] = _Collection(state, references, key, fresh)
    return fresh
