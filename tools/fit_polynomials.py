"""Fit the polynomials of src/cpp/kernels/simd/ (needs mpmath: ``pip install mpmath``).

Each is the minimax fit of its function in the relative sense, found by Remez exchange in 60 digits, printed
with the error that remains before rounding; then the tables of simd/tables.hpp, as they stand there.

>>> coefficients, error = remez(mp.exp, lambda x: mp.mpf(1), lambda x: x, (-0.1, 0.1), 3)
>>> len(coefficients), float(error) < 1e-6
(4, True)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from mpmath import mp

mp.dps = 60
LANES = 16  # of a table that one permutation looks up
Function = Callable[[mp.mpf], mp.mpf]


def remez(
    function: Function,
    factor: Function,
    variable: Function,
    interval: tuple[float, float],
    degree: int,
    steps: int = 4000,
) -> tuple[list[mp.mpf], mp.mpf]:
    """Minimise ``max |factor(x) * P(variable(x)) / function(x) - 1|`` over the interval, P of this degree."""
    low, high = (mp.mpf(end) for end in interval)
    count = degree + 2
    points = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (count - 1)) for i in range(count)]
    grid = [low + (high - low) * i / steps for i in range(steps + 1)]
    coefficients: list[mp.mpf] = []
    for _ in range(12):
        matrix = mp.matrix(count, count)
        for row, x in enumerate(points):
            scale = factor(x) / function(x)
            for power in range(degree + 1):
                matrix[row, power] = scale * variable(x) ** power
            matrix[row, degree + 1] = mp.mpf(-1) ** row
        solution = mp.lu_solve(matrix, mp.matrix([1] * count))
        coefficients = [solution[i] for i in range(degree + 1)]
        errors = [factor(x) / function(x) * mp.polyval(coefficients[::-1], variable(x)) - 1 for x in grid]
        points = _extrema(grid, errors, count)
    return coefficients, max(abs(error) for error in errors)


def _extrema(grid: list[mp.mpf], errors: list[mp.mpf], count: int) -> list[mp.mpf]:
    """Find the largest error of each run of equal sign; keep the `count` neighbours with the largest."""
    runs: list[tuple[mp.mpf, mp.mpf]] = []
    for x, error in zip(grid, errors, strict=True):
        if runs and mp.sign(runs[-1][1]) == mp.sign(error):
            if abs(error) > abs(runs[-1][1]):
                runs[-1] = (x, error)
        else:
            runs.append((x, error))
    while len(runs) > count:
        runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
    if len(runs) < count:
        raise ArithmeticError(f"the error changes sign {len(runs)} times, {count} wanted: lower the degree")
    return [x for x, _ in runs]


def mills(scale: mp.mpf) -> Function:
    """Phi(-t) * exp(t^2 / 2) as a function of u = 1 / (1 + scale * t)."""

    def function(u: mp.mpf) -> mp.mpf:
        t = (1 / u - 1) / scale
        return mp.erfc(t / mp.sqrt(2)) / 2 * mp.exp(t * t / 2)

    return function


def mills_interval(scale: mp.mpf, largest: int) -> tuple[float, float]:
    """Return the range of u for t from 0 to `largest`, beyond which Phi(-t) underflows."""
    return float(1 / (1 + scale * largest)), 1.0


def upper_tail(t: mp.mpf) -> mp.mpf:
    """Phi(-t), the part of the standard normal distribution above t."""
    return mp.erfc(t / mp.sqrt(2)) / 2


def tail_segment(centre: mp.mpf, degree: int) -> list[mp.mpf]:
    """Phi(-(centre + d)) as a polynomial in d, |d| <= 1/8; from 0 on in the first segment."""
    interval = (0.0 if centre == 0 else -0.125, 0.125)
    return remez(lambda d: upper_tail(centre + d), lambda d: mp.mpf(1), lambda d: d, interval, degree, 200)[0]


TANH_END = 9.25  # float's tanh is 1 from 9.02 on


def tanh_segment(number: int) -> tuple[mp.mpf, list[mp.mpf]]:
    """Give the centre of segment `number`, 0 for the first, and tanh(centre + d) as a polynomial in d.

    The segments are those of ``t + 1`` by its exponent's last two bits and its mantissa's first two, so the
    wider, the flatter tanh is: 0b11jj below t + 1 = 2, then 0b00jj, 0b01jj and 0b10jj below 4, 8 and 16.
    """
    width = 2.0 ** ((number // 4 + 1) % 4) / 4
    low = width * (4 + number % 4) - 1
    if low == 0:  # odd: t * P(t)
        odd, _ = remez(mp.tanh, lambda t: t, lambda t: t, (1e-6, width), 5, 400)
        return mp.mpf(0), [mp.mpf(0), *odd]
    if low > TANH_END:
        return mp.mpf(low), [mp.mpf(1)] + [mp.mpf(0)] * 6
    high = min(low + width, TANH_END)
    centre = round((low + high) * 4) / 8
    interval = (low - centre, high - centre)
    terms, _ = remez(lambda d: mp.tanh(centre + d), lambda d: mp.mpf(1), lambda d: d, interval, 6, 400)
    return mp.mpf(centre), terms


def literal(value: mp.mpf) -> str:
    """Write the nearest float as C++ does."""
    text = f"{float(value):.9g}"
    return (text if "." in text or "e" in text else text + ".0") + "f"


def print_tables() -> None:
    """Print what stands in simd/tables.hpp."""
    powers = [mp.mpf(2) ** (mp.mpf(j) / LANES) for j in range(LANES)]
    lost = [power - mp.mpf(struct.unpack("f", struct.pack("f", power))[0]) for power in powers]
    centres, terms = zip(*map(tanh_segment, range(LANES)), strict=True)
    single = {"powers_of_two": powers, "powers_of_two_lost": lost, "tanh_centre": centres}
    for name, values in single.items():
        print(f"alignas(64) inline constexpr float {name}[{LANES}] = {{{', '.join(map(literal, values))}}};")
    print_rows("tanh_terms", terms)
    for name, first, degree in (("near_tail", 0, 6), ("far_tail", LANES, 8)):
        print_rows(name, [tail_segment(mp.mpf(first + j) / 4, degree) for j in range(LANES)])


def print_rows(name: str, segments: Sequence[list[mp.mpf]]) -> None:
    """Print a table whose row p holds the segments' coefficients of the power p."""
    print(f"alignas(64) inline constexpr float {name}[{len(segments[0])}][{LANES}] = {{")
    for row in zip(*segments, strict=True):
        print("    {" + ", ".join(map(literal, row)) + "},")
    print("};")


HALF = mp.mpf(1) / 2
MILLS_FLOAT, MILLS_DOUBLE = mp.mpf(3) / 8, mp.mpf(1) / 4

FITS: dict[str, tuple[Function, Function, Function, tuple[float, float], int]] = {
    "exp2, float": (lambda x: mp.mpf(2) ** x, lambda x: mp.mpf(1), lambda x: x, (-0.5, 0.5), 6),
    "exp2, double": (lambda x: mp.mpf(2) ** x, lambda x: mp.mpf(1), lambda x: x, (-0.5, 0.5), 11),
    "exp, float": (mp.exp, lambda x: mp.mpf(1), lambda x: x, (-0.34658, 0.34658), 6),
    "exp, double": (mp.exp, lambda x: mp.mpf(1), lambda x: x, (-0.34658, 0.34658), 12),
    # One step in 16 of the logarithm, where the powers between come from a table; exactly 1 at 0.
    "2^x = 1 + x * P(x), 16 steps, float": (
        lambda x: (mp.mpf(2) ** x - 1) / x,
        lambda x: mp.mpf(1),
        lambda x: x,
        (1e-9, 1 / 16),
        2,
    ),
    "2^x = 1 + x * P(x), for results of bfloat16": (
        lambda x: (mp.mpf(2) ** x - 1) / x,
        lambda x: mp.mpf(1),
        lambda x: x,
        (1e-6, 1.0),
        2,
    ),
    "e^x = 1 + x * P(x), 16 steps, float": (
        lambda x: mp.expm1(x) / x if x else mp.mpf(1),
        lambda x: mp.mpf(1),
        lambda x: x,
        (-0.02167, 0.02167),
        2,
    ),
    "tanh(x) = x * P(x^2), float": (mp.tanh, lambda x: x, lambda x: x * x, (1e-6, 0.625), 5),
    "tanh(x) = x * P(x^2), double": (mp.tanh, lambda x: x, lambda x: x * x, (1e-6, 0.625), 11),
    "Phi(-t) exp(t^2/2) = u * P(u - 1/2), float": (
        mills(MILLS_FLOAT),
        lambda u: u,
        lambda u: u - HALF,
        mills_interval(MILLS_FLOAT, 15),
        9,
    ),
    "Phi(-t) exp(t^2/2) = u * P(u - 1/2), double": (
        mills(MILLS_DOUBLE),
        lambda u: u,
        lambda u: u - HALF,
        mills_interval(MILLS_DOUBLE, 39),
        21,
    ),
}

if __name__ == "__main__":
    for name, arguments in FITS.items():
        fitted, error = remez(*arguments)
        print(f"{name}: relative error {mp.nstr(error, 3)}")
        for power, coefficient in enumerate(fitted):
            print(f"  {power:2d}  {mp.nstr(coefficient, 20)}  {float(coefficient).hex()}")
    print_tables()
