"""A call of an operation, made plainly and oddly: the result must be the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tolerance
from arrays import DTYPES, accumulator, epsilon, native, normal, out_layouts, overlapping
from numpy.typing import NDArray

import attnlib as al

from .finding import Finding
from .odd_arrays import dirty, float_layout
from .spoiling import spoil

__all__ = [
    "MOST_COPIED",
    "Call",
    "Draw",
    "compare",
    "eps_of",
    "is_float",
    "promoted",
    "same_values",
    "shown",
]

Array = NDArray[Any]
Rng = np.random.Generator
# What is exact, and how far from it a result may be, for each result.
Exact = list[tuple[Any, Any]]

# Elements. Arrays of more are one number in memory.
MOST_COPIED = 1 << 24

_SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 65, 100, 129)


class Draw:
    """Draws what calls are made of."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.dtype = self.pick(list(DTYPES.values()))
        self.mixed = rng.random() < 0.1

    def pick(self, options: Any) -> Any:
        """Draw one of some."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        """Be True now and then."""
        return bool(self.rng.random() < probability)

    def size(self, most: int = 129) -> int:
        """Draw the length of an axis."""
        return min(int(self.pick(_SIZES)), most)

    def batch(self, most: int = 2) -> tuple[int, ...]:
        """Draw leading axes."""
        return tuple(int(self.pick((1, 2, 3, 1, 2, 0))) for _ in range(int(self.rng.integers(most + 1))))

    def array(self, *shape: int, scale: float = 1.0, dtype: Any = None) -> Array:
        """Draw numbers."""
        if dtype is None:
            dtype = self.pick(list(DTYPES.values())) if self.mixed else self.dtype
        return normal(self.rng, shape, dtype, scale)

    def broadcast(self, *shape: int) -> tuple[int, ...]:
        """Draw a shape that broadcasts to `shape`."""
        axes = tuple(n if self.chance(0.6) else 1 for n in shape)
        return axes[int(self.rng.integers(len(axes) + 1)) :] if self.chance(0.3) else axes


@dataclass
class Call:
    """A call.

    Attributes
    ----------
    name
        What its error messages begin with; one of several.
    function
        Takes `arguments` by their names.
    exact
        The right results, if they are known.
    takes_out
        Whether there is an argument `out`.
    """

    name: str | tuple[str, ...]
    function: Callable[..., Any]
    arguments: dict[str, Any]
    exact: Callable[[dict[str, Any]], Exact] | None = None
    takes_out: bool = False
    valid: bool = True
    clean: bool = True
    # Arguments that are written to, and must be contiguous.
    written: tuple[str, ...] = ()
    # Arguments that are not spoilt.
    switches: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def spoil(self, rng: Rng) -> None:
        """Put something else in the place of one argument, or two."""
        self.valid = False
        for _ in range(1 if rng.random() < 0.8 else 2):
            names = [name for name in self.arguments if name not in self.switches]
            name = names[int(rng.integers(len(names)))]
            self.arguments[name] = spoil(rng, self.arguments[name])
            self.notes.append(f"spoilt {name}")

    def soil(self, rng: Rng) -> None:
        """Put NaN and the like into one array of floats."""
        floats = [name for name, value in self.arguments.items() if is_float(value)]
        if floats:
            name = floats[int(rng.integers(len(floats)))]
            self.arguments[name] = dirty(rng, self.arguments[name])
            self.clean = False
            self.notes.append(f"soiled {name}")

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={shown(value)}" for name, value in self.arguments.items())
        return f"{self.name}({arguments}) {self.notes}"


def is_float(x: Any) -> bool:
    """Return whether this is an array of one of the four dtypes."""
    return type(x) is np.ndarray and x.dtype in DTYPES.values()


def shown(x: Any) -> str:
    """Describe an argument."""
    if isinstance(x, np.ndarray):
        values = f" = {x.tolist()}" if x.size < 10 and x.dtype.kind in "iub" else ""
        return f"{x.dtype}{list(x.shape)} strides {list(x.strides)}{values}"
    return repr(x)[:80]


def run(call: Call, arguments: dict[str, Any]) -> tuple[Array, ...] | Exception:
    """Call; return the results, or the error if it is one that may be raised."""
    try:
        with warnings.catch_warnings():
            if not (call.valid and call.clean):
                warnings.simplefilter("ignore", RuntimeWarning)  # what overflows may do so
            results = call.function(**arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, UnicodeError):
            raise
        names = (call.name,) if isinstance(call.name, str) else call.name
        if not str(error).startswith(names):
            raise Finding(f"message without the operation: {error}") from error
        return error
    except MemoryError as error:
        # Only what is given as that large may ask for as much.
        if not any(isinstance(x, np.ndarray) and x.size > MOST_COPIED for x in arguments.values()):
            raise
        return error
    if any(isinstance(x, np.ma.MaskedArray) for x in arguments.values()):
        raise Finding("a masked array lost its mask")
    return tuple(np.asarray(x) for x in (results if isinstance(results, tuple) else (results,)))


def compare(call: Call, rng: Rng) -> None:
    """Make the call on plain arrays, and on odd ones with other threads and `out`; judge the results."""
    plain = {name: x if name in call.written else _plain(x) for name, x in call.arguments.items()}
    al.set_num_threads(1)
    expected = run(call, plain)
    if call.valid and call.clean and isinstance(expected, Exception):
        raise Finding(f"valid call refused: {expected}") from expected
    if call.valid and call.clean and not isinstance(expected, Exception):
        _judge(call, plain, expected)
    odd = {
        name: float_layout(rng, x)
        if is_float(x) and x.size <= MOST_COPIED and name not in call.written
        else x
        for name, x in call.arguments.items()
    }
    out = None
    if call.takes_out and not isinstance(expected, Exception) and rng.random() < 0.5:
        out = _out(call, rng, odd, expected[0])
        if out is None:
            return
        odd["out"] = out
    before = {
        name: native(x).tobytes()
        for name, x in odd.items()
        if is_float(x) and x.size <= MOST_COPIED and name != "out"
    }
    al.set_num_threads(int(rng.integers(1, 3)))
    found = run(call, odd)
    if isinstance(expected, Exception) or isinstance(found, Exception):
        # Of two things that are wrong, either may be complained about.
        both = isinstance(expected, Exception) and isinstance(found, Exception)
        if not both or (type(expected) is not type(found) and len(call.notes) < 2):
            raise Finding(f"layout decides: {str(expected)[:250]} or {str(found)[:250]}")
        return
    for number, (one, other) in enumerate(zip(expected, found, strict=True)):
        if not same_values(one, other):
            raise Finding(f"layout, threads or out change result {number}: {np.asarray(one)} or {other}")
    if out is not None and not same_values(out, found[0]):
        raise Finding("out holds another result than the one that is returned")
    for name, data in before.items():
        if (out is None or not np.may_share_memory(odd[name], out)) and native(odd[name]).tobytes() != data:
            raise Finding(f"argument {name} was written to")


def _plain(x: Any) -> Any:
    return native(x) if is_float(x) and x.size <= MOST_COPIED else x


def same_values(a: Array, b: Array) -> bool:
    """Equal bits, any NaN being as good as another."""
    a, b = native(np.asarray(a)), native(np.asarray(b))
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.tobytes() == b.tobytes():
        return True
    nan = a != a
    return bool(np.array_equal(nan, b != b)) and a[~nan].tobytes() == b[~nan].tobytes()


def _judge(call: Call, plain: dict[str, Any], results: tuple[Array, ...]) -> None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if call.exact is None:
            if any(np.isnan(x.astype(np.float64)).any() for x in results if x.dtype in DTYPES.values()):
                raise Finding("NaN out of numbers")
            return
        for number, (result, (exact, bound)) in enumerate(zip(results, call.exact(plain), strict=True)):
            try:
                tolerance.assert_within(result, exact, bound, what=f"result {number}")
            except AssertionError as error:
                raise Finding(f"wrong: {error}") from None


def promoted(*arrays: Any) -> np.dtype[Any]:
    """Return the dtype that arrays promote to, float32 for the two of half precision."""
    dtypes = {x.dtype for x in arrays if x is not None}
    return np.result_type(*(np.float32 if len(dtypes) > 1 and x.itemsize == 2 else x for x in dtypes))


def eps_of(*arrays: Any) -> float:
    """Return the eps of the dtype in which an operation on these accumulates."""
    return epsilon(accumulator(promoted(*arrays)))


def _out(call: Call, rng: Rng, odd: dict[str, Any], result: Array) -> Array | None:
    """Make an array to write to: of any layout, or one that shares memory with an input."""
    floats = {name: x for name, x in odd.items() if is_float(x) and x.size <= MOST_COPIED}
    sharing = [name for name, x in floats.items() if x.dtype == result.dtype]
    choice = rng.random()
    if sharing and choice < 0.4:
        name = sharing[int(rng.integers(len(sharing)))]
        shift = int(rng.choice([0, 0, 1, 3, 17]))
        odd[name], out = overlapping(native(odd[name]), result.shape, shift)
        call.notes.append(f"out overlaps {name} by {shift}")
        return out
    if choice < 0.5:
        _refuse_bad_out(call, rng, odd, result)
        return None
    layouts = out_layouts(result.shape, result.dtype) if result.ndim else {}
    names = [name for name in layouts if result.size]
    if not names:
        return np.full(result.shape, np.nan, result.dtype)
    name = names[int(rng.integers(len(names)))]
    call.notes.append(f"out {name}")
    return layouts[name]


def _refuse_bad_out(call: Call, rng: Rng, odd: dict[str, Any], result: Array) -> None:
    """Call with an `out` that cannot be written to, which must be refused."""
    read_only = np.zeros(result.shape, result.dtype)
    read_only.flags.writeable = False
    wrong = (
        np.zeros((*result.shape, 1), result.dtype),
        np.zeros(result.shape, np.int32),
        np.zeros(result.shape, np.dtype(result.dtype).newbyteorder()),
        read_only,
        "text",
        result.tolist(),
        np.ma.masked_array(np.zeros(result.shape, result.dtype)),
    )
    odd = {**odd, "out": wrong[int(rng.integers(len(wrong)))]}
    found = run(call, odd)
    # Bytes in the other order can be written, too.
    other_order = isinstance(odd["out"], np.ndarray) and not odd["out"].dtype.isnative
    if not isinstance(found, Exception) and not other_order:
        raise Finding(f"out was taken, though it is {shown(odd['out'])}")
