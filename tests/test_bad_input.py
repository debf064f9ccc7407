"""Bad arrays: a TypeError or ValueError that says which argument and what was found, or the right result; no crash."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from arrays import DTYPES, normal, same_bits
from attention_check import make_qkv
from cases import CASES, Case
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
            with pytest.raises((TypeError, ValueError)):
                case.call(inputs | {name: thing})


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
    ({"query": (3, 4, 5, 8)}, ("(3, 4, 5, 8)",)),  # batches that do not broadcast
    ({"key": (5, 2, 2, 7, 8), "value": (4, 2, 2, 7, 6)}, ("(5, 2, 2, 7, 8)",)),
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
        ({"window": (huge, 0), "query_offset": huge}, everything),
    ):
        assert same_bits(al.attention(**arrays, **options), expected), options  # type: ignore[arg-type]


def test_offsets_beyond_int64() -> None:
    for options in ({"query_offset": 2**64}, {"window": (2**64, 0)}, {"key_lengths": [2**64, 1]}):
        with pytest.raises((ValueError, TypeError, OverflowError), match=next(iter(options))):
            al.attention(**qkv(), **options)  # type: ignore[arg-type]


# --- NaN and infinities ------------------------------------------------------------------------------------------


@by_case
@pytest.mark.parametrize("dirt", [np.nan, np.inf, -np.inf])
def test_dirt_stays_in_its_batch_entry(case: Case, dirt: float, rng: np.random.Generator) -> None:
    """Whatever one entry of the batch holds, the bits of the others do not move."""
    if not case.batched:
        pytest.skip("packed sequences: see ops/test_attention_varlen.py")
    inputs = case.make(rng, np.float32, 33)
    clean = case.call(inputs)
    for name in case.batched & set(floats_of(inputs)):
        dirty = inputs[name].copy()
        dirty[1] = dirt
        result = case.call(inputs | {name: dirty})
        assert same_bits(result[[0, 2]], clean[[0, 2]]), name


# --- sizes --------------------------------------------------------------------------------

BEYOND = 2**31 + 64


def giant(*shape: int) -> Array:
    """More than 2**31 elements in four bytes of memory."""
    result = np.broadcast_to(np.float32(1.0), shape)
    assert result.size > 2**31
    return result


def test_giants_that_do_not_fit() -> None:
    """Refused by their shapes, before anything is copied or allocated."""
    calls: list[Callable[[], Any]] = [
        lambda: al.matmul(giant(2**16, 2**16), np.ones((5, 5), f32)),
        lambda: al.linear(giant(2**16, 2**16), np.ones((5, 5), f32)),
        lambda: al.attention(giant(2**20, 2**12), np.ones((5, 5), f32), np.ones((5, 5), f32)),
        lambda: al.attention(np.ones((5, 5), f32), giant(2**20, 2**12), giant(2**20, 2**12)),
        lambda: al.layer_norm(giant(2**16, 2**16), np.ones(5, f32)),
        lambda: al.swiglu(giant(2**16, 2**16), np.ones(5, f32)),
        lambda: al.rotary_embedding(giant(2**16, 2, 2**9, 2**8), np.ones((5, 5), f32), np.ones((5, 5), f32)),
        lambda: al.relu(giant(2**16, 2**16), out=np.ones(5, f32)),
        lambda: al.softmax(giant(2**16, 2**16), mask=np.ones(5, bool)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"\d{3}"):
            call()


def test_giants_of_another_dtype() -> None:
    for dtype in (np.int32, np.complex64, np.bool_):
        with pytest.raises(TypeError, match=np.dtype(dtype).name):
            al.relu(np.broadcast_to(dtype(1), (2**16, 2**16)))


def test_giants_without_work() -> None:
    """An empty result of arrays that are not."""
    none = np.ones((0, 8), f32)
    assert al.attention(none, giant(2**29, 8), giant(2**29, 8)).shape == (0, 8)
    assert al.matmul(
        np.ones((0, 2**16), f32), np.lib.stride_tricks.as_strided(np.ones(2**16, f32), (2**16, 2**16), (0, 4))
    ).shape == (0, 2**16)


def test_matmul_of_a_giant() -> None:
    """2**31 elements read in place: the rows are one row, repeated with stride 0."""
    row = np.arange(2**12, dtype=f32) % 7 - 3
    tall = np.broadcast_to(row, (2**19 + 16, 2**12))
    column = (np.arange(2**12) % 5 - 2).astype(f32)[:, None]
    result = al.matmul(tall, column)
    assert result.shape == (2**19 + 16, 1)
    assert np.all(result == float(row.astype(np.float64) @ column[:, 0]))


def test_keys_beyond_two_billion() -> None:
    """A cache shared by a batch, of more than 2**31 elements, and a key axis that long of which little is valid."""
    rng = np.random.default_rng(0)
    query, key, value = make_qkv(rng, (1,), 1, 1, 1, 64, 64)
    shared = [np.broadcast_to(x, (2**19 + 1, 1, *x.shape[2:])) for x in (query, key, value)]
    assert shared[1].size > 2**31
    result = al.attention(*shared)
    assert np.all(result == al.attention(query, key, value))

    long = [np.broadcast_to(x[:, :, :1], (1, 1, BEYOND, 64)) for x in (key, value)]
    mostly_padding = al.attention(query, *long, key_lengths=[100])
    exact = oracle.attention(query, long[0][:, :, :100], long[1][:, :, :100]).output
    assert np.allclose(mostly_padding, exact, rtol=1e-5, atol=1e-6)


def test_far_apart_rows() -> None:
    """Row strides of gigabytes: offsets are 64 bits wide, and untouched pages cost nothing."""
    storage = np.zeros(2**31 + 2**20, np.float16)
    far = np.lib.stride_tricks.as_strided(storage, (3, 4, 8), (2**31, 4096, 2))
    far[...] = np.random.default_rng(0).standard_normal(far.shape)
    near = far.copy()
    assert same_bits(al.softmax(far), al.softmax(near))
    assert same_bits(al.softmax(far, 0), al.softmax(near, 0))
    assert same_bits(al.attention(far, far, far), al.attention(near, near, near))
    assert same_bits(al.matmul(far, near[0].T.copy()), al.matmul(near, near[0].T.copy()))
    al.relu(near, out=far)
    assert same_bits(far.copy(), al.relu(near))


# --- out --------------------------------------------------------------------------------


def test_out_that_overlaps_itself() -> None:
    """Elements that share memory cannot all hold their results: refused, or all equal because the inputs are."""
    storage = np.zeros(8, f32)
    out = np.lib.stride_tricks.as_strided(storage, (4, 8), (0, 4))
    rows = np.ones((4, 8), f32)
    try:
        al.relu(rows, out=out)
    except ValueError as error:
        assert "out" in str(error)
    else:
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
