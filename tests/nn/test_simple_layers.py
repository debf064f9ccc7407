"""Linear, Embedding, LayerNorm and RMSNorm against PyTorch."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from attnlib import _core, nn

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (0, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("float64", 1e-13)])
def test_linear(
    bias: bool,
    shape: Any,
    dtype: Any,
    tolerance: float,
    rng: np.random.Generator,
    twins: Any,
    assert_close: Any,
) -> None:
    layer = nn.Linear(5, 7, bias)
    oracle = twins(layer, torch.nn.Linear(5, 7, bias), dtype)
    x = rng.standard_normal(shape).astype(dtype)
    found = layer(x)
    assert found.dtype == dtype
    assert_close(found, oracle(torch.from_numpy(x.astype(np.float64))), tolerance)


def test_linear_fuses_activation_and_residual(
    rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    layer = nn.Linear(5, 7)
    oracle = twins(layer, torch.nn.Linear(5, 7))
    x, residual = rng.standard_normal((4, 5)).astype(np.float32), np.ones((4, 7), np.float32)
    out = np.empty((4, 7), np.float32)
    assert layer(x, activation="gelu", residual=residual, out=out) is out
    assert_close(out, torch.nn.functional.gelu(oracle(torch.from_numpy(x).double())) + 1)


def test_linear_starts_as_in_pytorch() -> None:
    state = nn.Linear(100, 300, rng=np.random.default_rng(0)).state_dict()
    for array in state.values():
        assert np.abs(array).max() <= 0.1
        assert np.abs(array).max() > 0.09


@pytest.mark.parametrize("ids", [[0, 4, 4], [[1, 2], [3, 0]], [], np.uint8([3]), np.uint64([3])])
def test_embedding(ids: Any, twins: Any) -> None:
    layer = nn.Embedding(5, 3, padding_idx=-1)
    oracle = twins(layer, torch.nn.Embedding(5, 3, padding_idx=-1))
    found = layer(ids)
    wanted = oracle(torch.tensor(np.asarray(ids).astype(np.int64))).detach().numpy()
    np.testing.assert_array_equal(found, wanted.astype(np.float32))


def test_embedding_of_bfloat16_and_padding() -> None:
    layer = nn.Embedding(5, 3, padding_idx=1).to("bfloat16")
    found = layer([[1]])
    assert found.dtype == ml_dtypes.bfloat16
    assert not found.astype(np.float32).any()


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [0, 1, 7, 300])
def test_embedding_of_many_rows(dtype: Any, size: int, rng: np.random.Generator) -> None:
    layer = nn.Embedding(1000, size)
    table = rng.standard_normal((1000, size)).astype(dtype)
    layer.load_state_dict({"weight": table})
    ids = rng.integers(0, 1000, (20, 700))
    found = layer(ids[:, ::-1])
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, table[ids[:, ::-1]])
    assert layer(np.empty((3, 0), np.int32)).shape == (3, 0, size)
    with pytest.raises(ValueError, match=r"^Embedding: x holds 1000, outside"):
        layer(np.where(ids == ids[-1, -1], 1000, ids))


def test_embedding_refuses() -> None:
    layer = nn.Embedding(5, 3)
    with pytest.raises(TypeError, match=r"^Embedding: x must be integers, got float64"):
        layer([1.0])
    with pytest.raises(TypeError, match=r"^Embedding: x must be integers, got bool"):
        layer([True])
    with pytest.raises(TypeError, match=r"^Embedding: x must be integers, got None"):
        layer(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^Embedding: weight must be \(N, D\), got shape \(5,\)"):
        _core.embedding([0], np.zeros(5, np.float32))
    with pytest.raises(ValueError, match=r"^Embedding: x holds 5, outside a table of 5 rows"):
        layer([1, 5])
    with pytest.raises(ValueError, match=r"^Embedding: x holds -1, outside"):
        layer([1, -1])
    with pytest.raises(ValueError, match=r"^Embedding: padding_idx 5 is outside"):
        nn.Embedding(5, 3, padding_idx=5)


@pytest.mark.parametrize("shape", [5, (5,), (3, 5)])
@pytest.mark.parametrize(("affine", "bias"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_layer_norm(
    shape: Any, affine: bool, bias: bool, eps: Any, rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    layer = nn.LayerNorm(shape, eps, affine, bias)
    oracle = twins(layer, torch.nn.LayerNorm(shape, eps, affine, bias))
    x = rng.standard_normal((4, 3, 5)).astype(np.float32)
    residual = rng.standard_normal((4, 3, 5)).astype(np.float32)
    wide = torch.from_numpy(x).double()
    assert_close(layer(x), oracle(wide))
    total = oracle(wide + torch.from_numpy(residual).double())
    assert_close(layer(x, residual=residual), total)
    assert layer(x, residual=residual, out=x) is x
    assert_close(x, total)


@pytest.mark.parametrize("shape", [5, (3, 5)])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [None, 0.5])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("float64", 1e-13), ("float16", 2**-10)])
def test_rms_norm(
    shape: Any,
    affine: bool,
    eps: Any,
    dtype: Any,
    tolerance: float,
    rng: np.random.Generator,
    twins: Any,
    assert_close: Any,
) -> None:
    layer = nn.RMSNorm(shape, eps, affine)
    oracle = twins(layer, torch.nn.RMSNorm(shape, eps, affine), dtype)
    # Small enough for the default eps to matter.
    x = (rng.standard_normal((4, 3, 5)) * 1e-3).astype(dtype)
    if eps is None and dtype != "float64":
        oracle.eps = float(np.finfo(np.float32).eps)
    found = layer(x)
    assert found.dtype == dtype
    assert_close(found, oracle(torch.from_numpy(x.astype(np.float64))), tolerance)


@pytest.mark.parametrize("layer", [nn.LayerNorm((3, 5)), nn.RMSNorm((3, 5)), nn.LayerNorm(5), nn.RMSNorm(5)])
def test_norms_refuse_other_shapes(layer: nn.LayerNorm | nn.RMSNorm) -> None:
    with pytest.raises(ValueError, match=r"x has shape \(4,\), expected \(\.\.\., "):
        layer(np.ones(4, np.float32))
    with pytest.raises(ValueError, match="normalized_shape is empty"):
        type(layer)(())


def test_layer_norm_over_several_axes_takes_what_over_one_takes(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    several, one = nn.LayerNorm((3, 4)), nn.LayerNorm(12)
    for residual in (x[::-1], x[:1], x[0].tolist(), x.astype(np.float64)):
        added = np.asarray(residual)
        wanted = one(x.reshape(2, 12), residual=added.reshape(*added.shape[:-2], 12)).reshape(x.shape)
        np.testing.assert_array_equal(several(x, residual=residual), wanted)
    wanted = several(x)
    # What is folded is a view of the first and a copy of the others.
    for out in (np.empty_like(x), np.empty((2, 3, 9), np.float32)[..., 1::2], np.empty_like(x, order="F")):
        assert several(x, out=out) is out
        np.testing.assert_array_equal(out, wanted)
    assert several(x, out=x) is x
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"residual": np.ones((2, 4, 3), np.float32)},
            ValueError,
            r"residual has shape \(2, 4, 3\), expected",
        ),
        ({"residual": np.ones((3, 3, 4), np.float32)}, ValueError, "residual"),
        ({"residual": np.float32(1)}, ValueError, r"residual has shape \(\), expected \(..., 3, 4\)"),
        (
            {"out": np.empty((2, 3, 4), np.int32)},
            TypeError,
            "out must have the result's dtype float32, got int32",
        ),
        ({"out": np.empty((2, 3, 4), np.float16)}, TypeError, "result's dtype float32, got float16"),
        (
            {"out": np.empty((1, 2, 3, 4), np.float32)},
            ValueError,
            r"result's shape \(2, 3, 4\), got \(1, 2, 3",
        ),
        ({"out": np.broadcast_to(np.float32(1), (2, 3, 4))}, ValueError, "out is read-only"),
        ({"out": [1.0]}, TypeError, "out must be a numpy.ndarray, got list"),
    ],
)
def test_layer_norm_over_several_axes_refuses(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nn.LayerNorm((3, 4))(np.ones((2, 3, 4), np.float32), **arguments)
