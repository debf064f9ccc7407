"""Three plots of a run: ratios to the best peer, shares of the ceiling, time against sequence length.

Colours are of Okabe and Ito's palette, which the colour-blind can tell apart; markers differ as well.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlib.benchmark.engines import NAMES, OURS
from attnlib.benchmark.result import Result
from attnlib.benchmark.workloads import LEAST_RATIO

if TYPE_CHECKING:
    from attnlib.benchmark.report import Report

__all__ = ["write"]

_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#666666"
_COLOURS = dict(
    zip(
        NAMES,
        (_BLUE, "#000000", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#8C564B", "#56B4E9"),
        strict=True,
    )
)
_MARKERS = dict(zip(NAMES, "osD^vP*X", strict=True))
_ROW = 0.21  # inches a workload takes


def write(report: Report, folder: Path) -> list[str]:
    """Draw what there is to draw; return the names of the files.

    Raises
    ------
    ImportError
        If matplotlib is not installed; the message says what to install.
    """
    try:
        import matplotlib
    except ImportError:
        raise ImportError('matplotlib is needed; install it with: pip install "attnlib[viz]"') from None
    matplotlib.use("Agg")  # files alone: no window, no display
    from matplotlib import pyplot

    written = []
    for name, draw in (("ratios", _ratios), ("shares", _shares), ("lengths", _lengths)):
        figure = draw(report, pyplot)
        if figure is not None:
            figure.savefig(folder / f"{name}.png", dpi=120, bbox_inches="tight")
            pyplot.close(figure)
            written.append(f"{name}.png")
    return written


def _ratios(report: Report, pyplot: Any) -> Any:
    """Draw how many times as long as attnlib the best peer takes, with what is expected of it."""
    rows = [
        (result, ratio, _target(result, "ratio", LEAST_RATIO))
        for result in report.table
        if (ratio := result.ratio()) is not None
    ]
    if not rows:
        return None
    figure, axes = _rows_figure(rows, pyplot)
    axes.set_xscale("log")
    values = [value for _, ratio, target in rows for value in (ratio, target) if value is not None]
    axes.set_xlim(min(0.8, min(values) * 0.9), max(2.2, max(values) * 1.12))
    ticks = [tick for tick in (0.1, 0.2, 0.5, 0.8, 1, 1.2, 1.5, 2, 3, 5, 10, 20, 50) if _inside(tick, axes)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("time of the best peer / time of attnlib  (right of 1: attnlib is faster)")
    axes.set_title(f"attnlib beside the best peer, {_threads(report)}", loc="left")
    return figure


def _shares(report: Report, pyplot: Any) -> Any:
    """Draw what part of the ceiling attnlib reaches, with what is expected of it."""
    rows = [
        (result, 100 * share, _target(result, "share", None, 100))
        for result in report.table
        if (share := result.share(report.ceiling(result))) is not None
    ]
    if not rows:
        return None
    figure, axes = _rows_figure(rows, pyplot)
    axes.set_xlim(0, max(105, max(value for _, value, _ in rows) * 1.05))
    axes.axvline(100, color="black", linewidth=1)
    axes.set_xlabel("% of the ceiling measured in the same run: multiply-adds, or reading")
    axes.set_title(f"attnlib's share of what the machine can do, {_threads(report)}", loc="left")
    return figure


def _rows_figure(rows: list[tuple[Result, float, float | None]], pyplot: Any) -> Any:
    """Draw a line a workload, families apart: a dot where it stands, a tick where it should."""
    places, labels, place = [], [], 0.0
    headings = []
    for family, members in groupby(rows, key=lambda row: row[0].workload.family):
        headings.append((place, family))
        place += 1
        for result, _, _ in members:
            places.append(place)
            labels.append(result.workload.name)
            place += 1
        place += 0.4
    figure, axes = pyplot.subplots(figsize=(9, 1.3 + _ROW * place))
    axes.set_ylim(place - 0.4, -0.8)
    axes.set_yticks(places, labels, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", top=True, labeltop=True)
    for at, family in headings:
        axes.text(
            -0.01,
            at,
            family,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=8.5,
            fontweight="bold",
        )
    for at, (_, value, target) in zip(places, rows, strict=True):
        good = target is None or value >= target
        axes.plot(
            value, at, marker="o" if good else "X", color=_BLUE if good else _RED, markersize=6, zorder=3
        )
        if target is not None:
            axes.plot([target, target], [at - 0.4, at + 0.4], color=_GREY, linewidth=2, zorder=2)
        axes.axhline(at, color="#E5E5E5", linewidth=0.6, zorder=0)
    axes.xaxis.grid(color="#D5D5D5", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    handles = [
        pyplot.Line2D([], [], color=_BLUE, marker="o", linestyle="", label="reached, or no target"),
        pyplot.Line2D([], [], color=_RED, marker="X", linestyle="", label="below its target"),
        pyplot.Line2D([], [], color=_GREY, marker="|", markersize=9, linestyle="", label="target"),
    ]
    height = figure.get_size_inches()[1]
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1 + 0.32 / height),
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return figure, axes


def _lengths(report: Report, pyplot: Any) -> Any:
    """Draw time against sequence length; float32 drawn through, other precisions dashed."""
    points = [result for result in report.results if result.workload.curve]
    if not points:
        return None
    figure, axes = pyplot.subplots(figsize=(8, 5.5))
    whos = dict.fromkeys(who for result in points for who in result.ways)
    ends = []
    for who in sorted(whos, key=lambda who: (who.engine == OURS, who.precision)):
        found = sorted((r.workload.length, r.seconds(who)) for r in points if who in r.ways)
        axes.plot(
            [length for length, _ in found],
            [1e6 * seconds for _, seconds in found],
            color=_COLOURS[who.engine],
            marker=_MARKERS[who.engine],
            markersize=5,
            linewidth=2.4 if who.engine == OURS else 1.4,
            linestyle="-" if who.precision == "float32" else "--",
            label=str(who),
        )
        ends.append((found[-1][1], who))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = sorted({result.workload.length for result in points})
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xlabel("tokens S")
    axes.set_ylabel("microseconds")
    axes.grid(color="#D5D5D5", linewidth=0.6)
    axes.set_title(f"{points[0].workload.curve}, {_threads(report)}", loc="left")
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = [str(who) for _, who in sorted(ends, key=lambda end: -end[0])]
    axes.legend([handles[label] for label in order], order, frameon=False, fontsize=9, handlelength=3.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _target(result: Result, kind: str, default: float | None, scale: float = 1) -> float | None:
    """Return what is expected of a share, or of the ratio to the best of all peers."""
    found = [t.least for t in result.workload.targets if t.kind == kind and t.peer is None]
    return scale * max(found) if found else default


def _inside(tick: float, axes: Any) -> bool:
    low, high = axes.get_xlim()
    return bool(low <= tick <= high)


def _threads(report: Report) -> str:
    count = report.options.threads
    return f"{count} thread{'s' if count > 1 else ''}"
