"""Tokens that people can read, and the maps that hold them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from attnlib import viz


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("cat", "cat"),
        ("##ing", "##ing"),
        (" the", "·the"),
        ("  ", "··"),
        ("", "∅"),
        ("\n", "↵"),
        ("a\tb", "a⇥b"),
        ("\x00\x1b\x7f", "␀␛␡"),
        ("\x85", "⟨U+0085⟩"),
        ("\u202eabc", "⟨U+202E⟩abc"),
        ("\u2066", "⟨U+2066⟩"),
        ("\u200b", "⟨U+200B⟩"),
        ("\ufeff", "⟨U+FEFF⟩"),
        ("\u00a0", "⟨U+00A0⟩"),
        ("\u2028", "⟨U+2028⟩"),
        ("\ud83d", "⟨U+D83D⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("\u200d", "⟨U+200D⟩"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("</script>", "</script>"),
        ("שלום", "שלום"),
    ],
)
def test_labels(token: str, label: str) -> None:
    assert viz.token_label(token) == label


def test_a_label_of_no_text() -> None:
    with pytest.raises(TypeError, match=r"^token_label: token must be a str, got int$"):
        viz.token_label(5)  # type: ignore[arg-type]


def test_defaults() -> None:
    weights = np.full((2, 3, 4, 4), 0.25, ml_dtypes.bfloat16)
    maps = viz.AttentionMaps(weights)
    assert maps.weights.dtype == np.float32
    assert maps.queries == maps.keys == ("0", "1", "2", "3")
    assert (maps.kind, maps.layers, maps.heads) == ("encoder", (0, 1), 3)
    assert repr(maps) == "AttentionMaps(encoder: 2 layers, 3 heads, 4 queries, 4 keys)"
    named = viz.AttentionMaps(weights[0], list("abcd"), layers=np.array([7]))
    assert type(named.layers[0]) is int
    assert named.keys == tuple("abcd")
    np.testing.assert_array_equal(named.layer(7), weights[0].astype(np.float32))
    assert viz.AttentionMaps(weights, list("abcd"), kind="cross").keys == ("0", "1", "2", "3")
    swapped = weights.astype(weights.dtype.newbyteorder())
    np.testing.assert_array_equal(viz.AttentionMaps(swapped).weights, weights.astype(np.float32))
    arrays = viz.AttentionMaps(np.zeros((1, 2, 3)), np.array(["a", "b"]), keys=np.array(["x", "y", "z"]))
    assert (arrays.queries, arrays.keys) == (("a", "b"), ("x", "y", "z"))
    with pytest.raises(ValueError, match=r"no layer 0, but \[7\]"):
        named.layer(0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"weights": np.zeros((2, 3))}, ValueError, r"\(2, 3\)"),
        ({"weights": np.zeros((2, 3, 4), int)}, TypeError, "int64"),
        ({"weights": np.zeros((2, 3, 4), [("a", np.float32)])}, TypeError, "weights must be floats"),
        ({"weights": np.full((2, 3, 4), np.nan)}, ValueError, "nan"),
        ({"weights": np.ma.zeros((2, 3, 4))}, TypeError, "weights is a masked array"),
        ({"weights": np.full((2, 3, 4), 1.1)}, ValueError, "1.1"),
        ({"weights": np.full((2, 3, 4), -0.1)}, ValueError, "-0.1"),
        ({"queries": ["a"]}, ValueError, "1 queries, but weights of 3"),
        ({"queries": "abc"}, TypeError, "queries must be a sequence of str"),
        ({"queries": 5}, TypeError, "queries must be a sequence of str, got 5"),
        ({"layers": [0.5]}, TypeError, r"AttentionMaps: layers must be integers, got \[0.5\]"),
        ({"layers": 1}, TypeError, "AttentionMaps: layers must be integers, got 1"),
        ({"keys": [1, 2, 3, 4]}, TypeError, "keys must be a sequence of str"),
        ({"kind": "self"}, ValueError, "'self'"),
        ({"layers": [1, 2]}, ValueError, r"layers \(1, 2\) do not number 1 layers"),
    ],
)
def test_bad_maps(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        viz.AttentionMaps(**{"weights": np.zeros((2, 3, 4)), **change})
