"""The recurrence of an LSTM against its formula in float64, on every rung."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from arrays import epsilon
from dlpack_producer import Producer
from numpy.typing import NDArray
from tolerance import assert_within

import attnlib as al
from attnlib.functional import lstm_steps

Array = NDArray[Any]


@pytest.mark.parametrize("units", [1, 7, 15, 16, 17, 33])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("size", [None, 5])
def test_formula(
    units: int, batch: int, dtype: str, backwards: bool, size: int | None, rng: np.random.Generator
) -> None:
    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    projected = 3 * draw(batch, 4, 4 * units)
    weight = draw(4 * units, size or units) / np.sqrt(np.array(units, dtype))
    output = draw(size, units) / np.sqrt(np.array(units, dtype)) if size else None
    hidden, cell = draw(batch, size or units), 2 * draw(batch, units)
    given = cell.copy()
    out, after = lstm_steps(
        projected,
        al.pack_weight(weight),
        hidden,
        cell,
        output_weight=None if output is None else al.pack_weight(output),
        backwards=backwards,
    )
    exact, exact_cell = oracle.lstm_steps(projected, weight, hidden, cell, output, backwards)
    assert np.array_equal(cell, given)
    # Each step adds at most some 16 roundings of sums of about |projected| and passes on what came before.
    bound = 64 * epsilon(dtype) * max(1.0, float(np.abs(projected).max()))
    assert_within(out, exact, bound, what="out")
    assert_within(after, exact_cell, bound, what="cell")


def test_saturated_gates_keep_or_replace_the_cell() -> None:
    projected = np.zeros((1, 1, 12), np.float32)
    projected[0, 0, :3], projected[0, 0, 3:6] = [-200, 200, 0], [200, -200, 0]
    projected[0, 0, 6:9] = [50, 50, 0]
    weight = al.pack_weight(np.zeros((12, 3), np.float32))
    _, cell = lstm_steps(projected, weight, np.zeros((1, 3), np.float32), np.array([[3, 3, 3]], np.float32))
    np.testing.assert_array_equal(cell, np.array([[3, 1, 1.5]], np.float32))


def test_out_is_filled_in_place(rng: np.random.Generator) -> None:
    projected = rng.standard_normal((2, 3, 20))
    weight = al.pack_weight(rng.standard_normal((20, 5)))
    state = np.zeros((2, 5))
    wide = np.full((2, 3, 9), 7.0)
    out, _ = lstm_steps(projected, weight, state, state, out=wide[..., 2:7])
    assert np.array_equal(wide[..., 2:7], lstm_steps(projected, weight, state, state)[0])
    assert out.base is wide
    assert (wide[..., :2] == 7).all()
    assert (wide[..., 7:] == 7).all()


def test_refusals() -> None:
    weight = al.pack_weight(np.zeros((8, 2), np.float32))
    projected, state = np.zeros((1, 3, 8), np.float32), np.zeros((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"^lstm_steps: projected must be \(B, S, 4 H\) and cell \(B, H\)"):
        lstm_steps(projected[0], weight, state, state)
    with pytest.raises(ValueError, match=r"^lstm_steps: cell must be \(1, 2\), got shape \(2, 2\)"):
        lstm_steps(projected, weight, state, np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"^lstm_steps: hidden must be \(1, 2\), got shape \(1, 3\)"):
        lstm_steps(projected, weight, np.zeros((1, 3), np.float32), state)
    with pytest.raises(ValueError, match=r"^lstm_steps: weight must be \(8, 2\), got shape \(8, 3\)"):
        lstm_steps(projected, al.pack_weight(np.zeros((8, 3), np.float32)), state, state)
    with pytest.raises(ValueError, match=r"^lstm_steps: output_weight must be \(1, 2\), got shape \(1, 3\)"):
        lstm_steps(
            projected,
            al.pack_weight(np.zeros((8, 1), np.float32)),
            state[:, :1],
            state,
            output_weight=al.pack_weight(np.zeros((1, 3), np.float32)),
        )
    half = np.float16
    with pytest.raises(TypeError, match=r"^lstm_steps: the arrays must be float32 or float64, got float16"):
        lstm_steps(projected.astype(half), weight, state.astype(half), state.astype(half))
    with pytest.raises(TypeError, match="go with each other alone"):
        lstm_steps(projected.astype(float), weight, state, state)


def test_no_units() -> None:
    """What comes of a state of no cells is written all the same."""
    weights = al.pack_weight(np.zeros((0, 3))), al.pack_weight(np.zeros((3, 0)))
    state = np.ones((2, 3)), np.zeros((2, 0))
    out = np.full((2, 4, 3), np.nan)
    lstm_steps(np.zeros((2, 4, 0)), weights[0], *state, output_weight=weights[1], out=out)
    np.testing.assert_array_equal(out, 0)


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize(("batch", "units", "size"), [(1, 760, None), (3, 701, None), (8, 760, 520)])
@pytest.mark.parametrize("backwards", [False, True])
def test_threads_move_no_bit(
    weights: str, batch: int, units: int, size: int | None, backwards: bool, rng: np.random.Generator
) -> None:
    """Threads share the columns of a step's products and the rows of its cells."""

    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(np.float32)

    width = size or units
    arguments = {
        "projected": draw(batch, 5, 4 * units),
        "weight": al.pack_weight(draw(4 * units, width) / 20, dtype=weights),
        "hidden": draw(batch, width),
        "cell": draw(batch, units),
        "output_weight": al.pack_weight(draw(size, units) / 20, dtype=weights) if size else None,
        "backwards": backwards,
    }
    results = []
    for threads in (1, 2, 3):
        with al.num_threads(threads):
            results.append(lstm_steps(**arguments))
            assert (al.last_dispatch().threads > 1) == (threads > 1)
    for result in results[1:]:
        np.testing.assert_array_equal(result[0], results[0][0])
        np.testing.assert_array_equal(result[1], results[0][1])


def test_tensors_of_other_libraries(rng: np.random.Generator) -> None:
    """All arrays may come through DLPack, the cell too, which is copied first."""
    weight = al.pack_weight(rng.standard_normal((8, 2), dtype=np.float32))
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in ((1, 3, 8), (1, 2), (1, 2))]
    out, cell = lstm_steps(arrays[0], weight, *arrays[1:])
    projected, hidden, state = (Producer(array) for array in arrays)
    found, found_cell = lstm_steps(projected, weight, hidden, state)
    assert found.tobytes() == out.tobytes()
    assert found_cell.tobytes() == cell.tobytes()
