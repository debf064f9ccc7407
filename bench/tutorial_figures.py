"""Measure and draw the two figures of docs/tutorial: time against length, and how far information travels.

    python bench/tutorial_figures.py --output docs/tutorial/figures

It wants matplotlib (``pip install "attnlib[viz]"``) and a quiet machine for less than a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import attnlib as al
from attnlib import nn
from attnlib.benchmark import lock
from attnlib.benchmark.machine import disturbance, processor
from attnlib.benchmark.measure import Timing, measure_turns

Array = NDArray[Any]

WIDTH, HEADS, KERNEL = 256, 4, 3
LENGTHS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
THREADS = (1, 2)
REACH = 32  # tokens on each side of the one that is replaced
SEQUENCES = 64

# Of Okabe and Ito's palette, and a grey for text: all are legible on white and on black.
COLOURS = {"RNN": "#D55E00", "convolution": "#009E73", "attention": "#1F86C9"}
GREY = "#808080"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "attnlib",
    "font.size": 10,
    "font.family": "sans-serif",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY),
}


def layers(dtype: str = "float32") -> dict[str, Callable[[Array], Array]]:
    """Make one layer of each kind, (B, S, E) to (B, S, E), with the weights that torch.nn would draw."""
    rng = np.random.default_rng(0)
    rnn = nn.RNN(WIDTH, WIDTH, rng=rng).to(dtype)
    convolution = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding="same", rng=rng).to(dtype)
    attention = nn.MultiheadAttention(WIDTH, HEADS, rng=rng).to(dtype)
    return {
        "RNN": lambda x: rnn(x)[0],
        "convolution": lambda x: convolution(x.swapaxes(1, 2)).swapaxes(1, 2),
        "attention": attention,
    }


@dataclass(frozen=True)
class Point:
    """The time of one layer on one sequence."""

    layer: str
    threads: int
    length: int
    timing: Timing


def measure_time(lengths: tuple[int, ...], rotations: int, seconds: float) -> list[Point]:
    """Time every layer on one sequence of each length; layers and thread counts take turns."""
    rng = np.random.default_rng(1)
    cases = [(name, threads) for name in COLOURS for threads in THREADS]
    points = []
    before = al.get_num_threads()
    made = layers()
    for length in lengths:
        x = rng.standard_normal((1, length, WIDTH), dtype=np.float32)

        def call(name: str, threads: int, x: Array = x) -> Callable[[], Array]:
            def run() -> Array:
                al.set_num_threads(threads)
                return made[name](x)

            return run

        timings = measure_turns(
            [call(*case) for case in cases],
            rotations=rotations,
            seconds=seconds,
            rest=0.03,
            alone=lock.timing,
        )
        points += [Point(*case, length, timing) for case, timing in zip(cases, timings, strict=True)]
    al.set_num_threads(before)
    return points


def measure_reach() -> dict[str, Array]:
    """Replace the token in the middle of a sequence: how much does each row of the result change?

    Returns
    -------
    dict of str to (2 * REACH + 1,) ndarray
        The size of the change by place, as a share of the size of the change of the token, in the mean over
        `SEQUENCES` random sequences; computed in float64.
    """
    rng = np.random.default_rng(2)
    x = rng.standard_normal((SEQUENCES, 2 * REACH + 1, WIDTH))
    replaced = x.copy()
    replaced[:, REACH] = rng.standard_normal((SEQUENCES, WIDTH))
    cause = np.linalg.norm(replaced[:, REACH] - x[:, REACH], axis=-1)
    return {
        name: (np.linalg.norm(layer(replaced) - layer(x), axis=-1) / cause[:, None]).mean(axis=0)
        for name, layer in layers("float64").items()
    }


def draw_time(points: list[Point], pyplot: Any) -> Any:
    """Draw time against length, one line for each layer and number of threads."""
    figure, axes = pyplot.subplots(figsize=(7.2, 4.6))
    for name, colour in COLOURS.items():
        for threads in THREADS:
            mine = [point for point in points if (point.layer, point.threads) == (name, threads)]
            axes.plot(
                [point.length for point in mine],
                [1e3 * point.timing.seconds for point in mine],
                color=colour,
                marker="o",
                markersize=4,
                linestyle="-" if threads == 1 else "--",
                label=f"{name}, {threads} thread{'s' if threads > 1 else ''}",
            )
    lengths = sorted({point.length for point in points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xlabel("tokens in the sequence")
    axes.set_ylabel("milliseconds")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(f"One layer of width {WIDTH}, one sequence", loc="left")
    return _finished(figure, axes)


def draw_reach(changes: dict[str, Array], pyplot: Any) -> Any:
    """Draw the size of the change against the distance; a change of exactly 0 has no place on a log axis."""
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2))
    distance = np.arange(-REACH, REACH + 1)
    for (name, change), marker in zip(changes.items(), "osD", strict=True):
        seen = change > 0
        axes.plot(distance[seen], change[seen], color=COLOURS[name], marker=marker, markersize=4, label=name)
    axes.set_yscale("log")
    axes.set_ylim(1e-10, 3)
    axes.set_xticks(range(-REACH, REACH + 1, 8))
    axes.set_xlabel("places after (before: negative) the token that is replaced")
    axes.set_ylabel("change of the result / change of the token")
    axes.set_title(f"One layer of width {WIDTH}, random weights", loc="left")
    return _finished(figure, axes)


def _finished(figure: Any, axes: Any) -> Any:
    axes.grid(color=GREY, linewidth=0.5, alpha=0.35)
    axes.minorticks_off()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return figure


def table(points: list[Point]) -> str:
    """Write the times as Markdown, in milliseconds: a row for each length."""
    cases = list(dict.fromkeys((point.layer, point.threads) for point in points))
    times = {
        (point.layer, point.threads, point.length): f"{1e3 * point.timing.seconds:.3g}" for point in points
    }
    rows = ["| tokens | " + " | ".join(f"{name}, {threads}" for name, threads in cases) + " |"]
    rows.append("|---:" * (len(cases) + 1) + "|")
    for length in dict.fromkeys(point.length for point in points):
        rows.append(
            f"| {length} | " + " | ".join(times[name, threads, length] for name, threads in cases) + " |"
        )
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> None:
    """Measure, draw, and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the folder for time.svg and reach.svg")
    parser.add_argument("--only", choices=("time", "reach"), help="draw one of them; default: both")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="tokens of the sequences")
    parser.add_argument("--rotations", type=int, default=6, help="blocks of each; default: 6")
    parser.add_argument("--seconds", type=float, default=0.03, help="seconds of a block; default: 0.03")
    options = parser.parse_args(arguments)

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    options.output.mkdir(parents=True, exist_ok=True)
    figures = {}
    with matplotlib.rc_context(STYLE):
        if options.only != "reach":
            points = measure_time(tuple(options.lengths), options.rotations, options.seconds)
            figures["time"] = draw_time(points, pyplot)
            print(f"{processor()}; rung {al.isa()}")
            print(disturbance([block for point in points for block in point.timing.blocks]))
            print(table(points))
        if options.only != "time":
            changes = measure_reach()
            figures["reach"] = draw_reach(changes, pyplot)
            for name, change in changes.items():
                far = ", ".join(f"{change[REACH + step]:.2g}" for step in (-REACH, -1, 0, 1, 8, REACH))
                print(f"{name}: at -{REACH}, -1, 0, 1, 8, {REACH}: {far}")
        for name, figure in figures.items():
            figure.savefig(
                options.output / f"{name}.svg",
                transparent=True,
                bbox_inches="tight",
                metadata={"Date": None, "Creator": None},
            )
            pyplot.close(figure)


if __name__ == "__main__":
    main()
