"""Bad arrays: a TypeError or ValueError that names the argument and what was found, or the right result."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from arrays import DTYPES, normal, same_bits
from cases import BATCHED, CASES, Case
from numpy.typing import NDArray

import attnlib as al

Array = NDArray[Any]
by_case = pytest.mark.parametrize("case", CASES, ids=str)

# What the operation of a case is called in its messages.
OPERATIONS = (
    "attention_varlen",
    "attention",
    "log_softmax",
    "softmax",
    "layer_norm",
    "rms_norm",
    "linear",
    "gelu",
)


def operation_of(case: Case) -> str:
    if case.name.startswith("rotary"):
        return "rotary_embedding"
    return next((name for name in OPERATIONS if case.name.startswith(name)), case.name)


def floats_of(inputs: dict[str, Array]) -> list[str]:
    return [name for name, array in inputs.items() if array.dtype == np.float32]


# --- dtypes --------------------------------------------------------------------------------

WRONG_DTYPES = (
    np.int8,
    np.int64,
    np.uint16,
    np.bool_,
    np.complex64,
    np.complex128,
    np.longdouble,
    object,
    np.dtype("U3"),
    np.dtype("S3"),
    np.dtype("M8[s]"),
    np.dtype([("a", "f4")]),
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.int4,
)


@by_case
@pytest.mark.parametrize("dtype", WRONG_DTYPES, ids=lambda d: np.dtype(d).name)
def test_dtype(case: Case, dtype: Any, rng: np.random.Generator) -> None:
    """Every float input of every operation; the message has the operation, the argument and the dtype."""
    inputs = case.make(rng, np.float32, 5)
    for name in floats_of(inputs):
        wrong = np.zeros(inputs[name].shape, dtype)
        with pytest.raises(TypeError) as error:
            case.call(inputs | {name: wrong})
        message = str(error.value)
        operation = "pack_weight" if case.name == "linear_packed" and name == "weight" else operation_of(case)
        assert message.startswith(operation), message
        assert re.search(rf"\b{name}\b", message), message
        found = (np.dtype(dtype).name, str(np.dtype(dtype)), np.dtype(dtype).str)
        assert any(spelling in message for spelling in found), message


@by_case
def test_none_is_not_an_array(case: Case, rng: np.random.Generator) -> None:
    inputs = case.make(rng, np.float32, 5)
    optional = {"bias", "residual", "mask", "alibi_slopes", "sinks"}
    if case.name in ("layer_norm", "rms_norm"):
        optional.add("weight")
    for name in set(inputs) - optional:
        with pytest.raises(TypeError, match=name):
            case.call(inputs | {name: None})


@by_case
def test_things_that_are_no_arrays(case: Case, rng: np.random.Generator) -> None:
    inputs = case.make(rng, np.float32, 5)
    for name in inputs:
        for thing in ("text", object(), {"a": 1}, [[1.0], [1.0, 2.0]], {1.0}, b"bytes"):
            with pytest.raises((TypeError, ValueError)) as error:
                case.call(inputs | {name: thing})
            assert name in str(error.value)


def test_uint16_is_not_bfloat16() -> None:
    """The bit patterns of bfloat16 in a uint16 array are integers."""
    bits = np.ones(4, DTYPES["bfloat16"]).view(np.uint16)
    with pytest.raises(TypeError, match=r"(?s)^relu.*x.*uint16"):
        al.relu(bits)


# --- subclasses --------------------------------------------------------------------------------


class Tagged(np.ndarray):
    """A subclass that overrides nothing."""


@by_case
def test_masked_arrays_are_refused(case: Case, rng: np.random.Generator) -> None:
    """Their mask would be lost without a word."""
    inputs = case.make(rng, np.float32, 5)
    for name, array in inputs.items():
        with pytest.raises(TypeError, match=rf"(?s)\b{name}\b.*[Mm]asked"):
            case.call(inputs | {name: np.ma.masked_array(array, mask=np.zeros(array.shape, bool))})


@by_case
def test_subclasses_give_the_right_result(case: Case, rng: np.random.Generator, tmp_path: Any) -> None:
    """A plain subclass, and a memory-mapped file."""
    inputs = case.make(rng, np.float32, 17)
    expected = case.call(inputs)
    assert same_bits(np.asarray(case.call({name: x.view(Tagged) for name, x in inputs.items()})), expected)
    mapped = {}
    for name, array in inputs.items():
        np.save(tmp_path / f"{name}.npy", array)
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    assert same_bits(np.asarray(case.call(mapped)), expected)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_np_matrix(rng: np.random.Generator) -> None:
    """Whose own multiplication and indexing are unlike an array's."""
    a, b = normal(rng, (5, 5), np.float32), normal(rng, (5, 5), np.float32)
    ma, mb = np.matrix(a), np.matrix(b)
    for function in (al.matmul, al.linear, al.swiglu):
        assert same_bits(np.asarray(function(ma, mb)), function(a, b))
    for single in (al.relu, al.softmax, al.layer_norm, al.gelu):
        assert same_bits(np.asarray(single(ma)), single(a))
    assert same_bits(np.asarray(al.attention(ma, mb, ma)), al.attention(a, b, a))
    out = np.matrix(np.empty((5, 5), np.float32))
    al.matmul(a, b, out=out)
    assert same_bits(np.asarray(out), al.matmul(a, b))


# --- shapes of attention --------------------------------------------------------------------------------


def qkv(**changes: tuple[int, ...]) -> dict[str, Array]:
    shapes = {"query": (2, 4, 5, 8), "key": (2, 2, 7, 8), "value": (2, 2, 7, 6)} | changes
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


SHAPES: list[tuple[dict[str, tuple[int, ...]], tuple[str, ...]]] = [
    ({"query": (8,)}, ("query",)),
    ({"query": ()}, ("query",)),
    ({"key": (8,)}, ("key",)),
    ({"value": (6,)}, ("value",)),
    ({"key": (2, 2, 7, 9)}, ("key", "9")),  # D
    ({"value": (2, 2, 8, 6)}, ("value", "8")),  # Sk
    ({"value": (2, 1, 7, 6)}, ("value",)),  # G
    ({"query": (2, 3, 5, 8)}, ("3", "2")),  # H % G
    ({"key": (2, 3, 7, 8), "value": (2, 3, 7, 6)}, ("4", "3")),
    ({"key": (2, 8, 7, 8), "value": (2, 8, 7, 6)}, ("4", "8")),  # more key heads than query heads
    ({"key": (2, 0, 7, 8), "value": (2, 0, 7, 6)}, ("4", "0")),
    ({"query": (3, 4, 5, 8)}, ("query", "3", "2")),  # batches that do not broadcast
    ({"key": (5, 2, 2, 7, 8), "value": (4, 2, 2, 7, 6)}, ("key", "5, 2", "4, 2")),
]


@pytest.mark.parametrize(("changes", "words"), SHAPES, ids=lambda x: str(x) if isinstance(x, dict) else "")
def test_shapes_of_attention(changes: dict[str, tuple[int, ...]], words: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the message is checked below)
        al.attention(**qkv(**changes))
    message = str(error.value)
    assert message.startswith("attention"), message
    assert "(" in message, "the shapes found are shown"
    for word in words:
        assert word in message, message


Refusal = tuple[dict[str, Any], type[Exception], str]
f32 = np.float32
REFUSALS: list[Refusal] = [
    ({"mask": np.ones((5, 7), f32)}, TypeError, "mask.*float32"),
    ({"mask": np.ones((5, 7), np.int64)}, TypeError, "mask.*int64"),
    ({"mask": np.ones((5, 6), bool)}, ValueError, r"mask.*\(5, 6\)"),
    ({"mask": np.ones((3, 5, 7), bool)}, ValueError, r"mask.*\(3, 5, 7\)"),
    ({"mask": np.ones((1, 2, 4, 5, 7), bool)}, ValueError, "mask"),
    ({"mask": np.ones((3, 4, 5, 7), bool)}, ValueError, "mask"),
    ({"bias": np.ones((5, 7), np.int64)}, TypeError, "bias.*int64"),
    ({"bias": np.ones((5, 7), bool)}, TypeError, "bias.*bool"),
    ({"bias": np.ones((7, 5), f32)}, ValueError, r"bias.*\(7, 5\)"),
    ({"bias": np.ones((2, 2, 4, 5, 7), f32)}, ValueError, "bias"),
    ({"key_lengths": [3, -1]}, ValueError, "key_lengths.*-1"),
    ({"key_lengths": [3, 8]}, ValueError, "key_lengths.*8"),
    ({"key_lengths": [3, 2**62]}, ValueError, f"key_lengths.*{2**62}"),
    ({"key_lengths": [-(2**63), 3]}, ValueError, "key_lengths"),
    ({"key_lengths": [3, 3, 3]}, ValueError, r"key_lengths.*\(3,\)"),
    ({"key_lengths": [[3], [3], [3]]}, ValueError, "key_lengths"),
    ({"key_lengths": [3.0, 3.0]}, TypeError, "key_lengths.*float64"),
    ({"key_lengths": [True, False]}, TypeError, "key_lengths.*bool"),
    ({"key_lengths": np.array([3, 3], object)}, TypeError, "key_lengths.*object"),
    ({"key_lengths": np.array([3, 2**64 - 1], np.uint64)}, ValueError, "key_lengths"),
    ({"query_offset": [0, 1, 2]}, ValueError, r"query_offset.*\(3,\)"),
    ({"query_offset": 1.5}, TypeError, "query_offset"),
    ({"query_offset": [0.0, 1.0]}, TypeError, "query_offset.*float64"),
    ({"query_offset": "3"}, TypeError, "query_offset"),
    ({"window": (-1, 0)}, ValueError, "window.*-1"),
    ({"window": (0, -5)}, ValueError, "window.*-5"),
    ({"window": (1, 2, 3)}, (ValueError, TypeError), "window"),  # type: ignore[list-item]
    ({"window": 3}, (ValueError, TypeError), "window"),  # type: ignore[list-item]
    ({"window": (1.5, 0)}, TypeError, "window"),
    ({"window": ("1", 0)}, TypeError, "window"),
    ({"alibi_slopes": np.ones(3, f32)}, ValueError, r"alibi_slopes.*\(3,\)"),
    ({"alibi_slopes": np.ones((4, 1), f32)}, ValueError, "alibi_slopes"),
    ({"alibi_slopes": np.ones(4, np.int64)}, TypeError, "alibi_slopes.*int64"),
    ({"sinks": np.ones(2, f32)}, ValueError, r"sinks.*\(2,\)"),
    ({"sinks": np.ones(4, np.complex64)}, TypeError, "sinks.*complex64"),
    ({"scale": "0.5"}, TypeError, "scale"),
    ({"scale": np.ones(3)}, (TypeError, ValueError), "scale"),  # type: ignore[list-item]
    ({"softcap": 0.0}, ValueError, "softcap"),
    ({"softcap": -1.0}, ValueError, "softcap.*-1"),
    ({"softcap": float("nan")}, ValueError, "softcap.*nan"),
    ({"softcap": "high"}, TypeError, "softcap"),
    ({"out": np.ones((2, 4, 5, 8), f32)}, ValueError, r"out.*\(2, 4, 5, 8\)"),
    ({"out": np.ones((2, 4, 5, 6), np.float64)}, TypeError, "out.*float64"),
    ({"unknown": 1}, TypeError, "unknown"),
]


@pytest.mark.parametrize(
    "refusal", REFUSALS, ids=lambda r: f"{next(iter(r[0]))}-{np.shape(next(iter(r[0].values())))}"
)
def test_options_of_attention(refusal: Refusal) -> None:
    options, error, pattern = refusal
    with pytest.raises(error, match=f"(?s){pattern}") as raised:
        al.attention(**qkv(), **options)
    assert "attention" in str(raised.value).split(":")[0]


def test_extreme_integers_are_right() -> None:
    """Offsets and windows near the ends of int64 must not overflow on the way."""
    arrays = {
        name: np.random.default_rng(0).standard_normal(x.shape).astype(f32) for name, x in qkv().items()
    }
    huge = 2**62
    everything, nothing = al.attention(**arrays), np.zeros((2, 4, 5, 6), f32)
    for options, expected in (
        ({"causal": True, "query_offset": huge}, everything),
        ({"causal": True, "query_offset": -huge}, nothing),
        ({"window": (huge, huge)}, everything),
        ({"window": (2**63 - 1, 2**63 - 1)}, everything),
        ({"window": (2**63 - 1, 2**63 - 1), "query_offset": 1000}, everything),
        ({"window": (5, 5), "query_offset": huge}, nothing),
        ({"window": (5, 5), "query_offset": -huge}, nothing),
        ({"window": (huge + 9, 0), "query_offset": huge}, everything),
    ):
        with contextlib.suppress(ValueError):  # a limit far beyond any sequence may be refused
            assert same_bits(al.attention(**arrays, **options), expected), options  # type: ignore[arg-type]


def test_offsets_beyond_int64() -> None:
    for options in ({"query_offset": 2**64}, {"window": (2**64, 0)}, {"key_lengths": [2**64, 1]}):
        with pytest.raises((ValueError, TypeError, OverflowError), match=next(iter(options))):
            al.attention(**qkv(), **options)  # type: ignore[arg-type]


# --- NaN and infinities
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BATCHED, ids=str)
@pytest.mark.parametrize("dirt", [np.nan, np.inf, -np.inf])
def test_dirt_stays_in_its_batch_entry(case: Case, dirt: float, rng: np.random.Generator) -> None:
    """Whatever one entry of the batch holds, the bits of the others do not move."""
    inputs = case.make(rng, np.float32, 33)
    clean = case.call(inputs)
    for name in case.batched & set(floats_of(inputs)):
        dirty = inputs[name].copy()
        dirty[1] = dirt
        result = case.call(inputs | {name: dirty})
        assert same_bits(result[[0, 2]], clean[[0, 2]]), name


# --- out --------------------------------------------------------------------------------


def test_out_that_overlaps_itself() -> None:
    """Elements that share memory cannot all hold their results: refused, or right if all are equal."""
    storage = np.zeros(8, f32)
    out = np.lib.stride_tricks.as_strided(storage, (4, 8), (0, 4))
    rows = np.ones((4, 8), f32)
    with contextlib.suppress(ValueError):
        al.relu(rows, out=out)
        assert np.all(storage == 1)


@by_case
def test_inputs_may_all_be_one_array(case: Case, rng: np.random.Generator) -> None:
    """Aliased inputs are no special case: query, key and value of self-attention, say."""
    inputs = case.make(rng, np.float32, 9)
    by_shape: dict[tuple[int, ...], Array] = {}
    aliased = {
        name: by_shape.setdefault(x.shape, x) if x.dtype == np.float32 else x for name, x in inputs.items()
    }
    separate = {name: x.copy() for name, x in aliased.items()}
    assert same_bits(case.call(aliased), case.call(separate))


# --- the cheap arguments --------------------------------------------------------------------------------


def test_positional_only() -> None:
    with pytest.raises(TypeError):
        al.matmul(a=np.ones((2, 2)), b=np.ones((2, 2)))  # type: ignore[call-arg]


def test_keyword_only() -> None:
    """Options cannot be given by position, where a new one would move them."""
    x = np.ones((2, 2))
    for call in (
        lambda: al.attention(x, x, x, np.ones((2, 2), bool)),  # type: ignore[misc]
        lambda: al.linear(x, x, None, "relu"),  # type: ignore[misc]
        lambda: al.layer_norm(x, None, None, 1e-5),  # type: ignore[misc]
        lambda: al.matmul(x, x, x),  # type: ignore[misc]
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("eps", ["1e-5", None, 1j], ids=repr)
def test_eps_that_is_no_number(eps: Any) -> None:
    for norm in (al.layer_norm, al.rms_norm):
        with pytest.raises(TypeError):
            norm(np.ones((2, 3), f32), eps=eps)


def test_negative_eps() -> None:
    """Would put NaN where none was."""
    for norm in (al.layer_norm, al.rms_norm):
        for eps in (-1.0, float("nan")):
            with pytest.raises(ValueError, match="eps"):
                norm(np.ones((2, 3), f32), eps=eps)
