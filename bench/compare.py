"""attnlib and its peers side by side in one run, with the ceilings of the machine beside them.

    python bench/compare.py --threads 1 --workloads attention --json results.json

prints a Markdown table on standard output and its progress on standard error; see README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threads import limit_threads

if TYPE_CHECKING:  # these load NumPy, whose BLAS must know its threads by then
    from ceilings import Ceilings
    from engines import Engine
    from measure import Timing
    from workloads import Workload

ENGINES = ("attnlib", "NumPy", "PyTorch", "ONNX Runtime")
OURS = ENGINES[0]


@dataclass(frozen=True)
class Result:
    """A workload's timings, and the way that each engine was called, by engine."""

    workload: Workload
    timings: dict[str, Timing]
    ways: dict[str, str]

    @property
    def ratio(self) -> float | None:
        """How many times as long as attnlib the fastest peer takes."""
        peers = [timing.seconds for name, timing in self.timings.items() if name != OURS]
        return min(peers) / self.timings[OURS].seconds if peers and OURS in self.timings else None


@dataclass
class Limits:
    """The best that was seen of each ceiling, per second; 0 for one that was not measured."""

    flops: float = 0.0
    bytes: float = 0.0


def main() -> int:
    """Run the comparison; the exit status is 1 if results disagree."""
    options = parse()
    limit_threads(options.threads)
    if options.model:
        os.environ["ATTNLIB_TEST_MODELS"] = str(options.model.resolve())

    import workloads

    everything = [*workloads.ATTENTION, *workloads.MATMUL, *workloads.ROWS]
    everything += [*workloads.ENCODER, *workloads.SENTENCES]
    wanted = options.workloads
    chosen = [w for w in everything if any(word in w.name for word in wanted)] if wanted else workloads.TABLE
    if options.list or not chosen:
        print("\n".join(workload.name for workload in everything), file=sys.stderr)
        return 0 if options.list else 2

    from agreement import Disagreement

    engines = load_engines(options)
    ceilings, limits = load_ceilings(options.threads), Limits()
    results: list[Result] = []
    failed = False
    print_head(list(engines))
    for workload in chosen:
        try:
            result = compare(workload, engines, ceilings, limits, options)
        except (Disagreement, FileNotFoundError) as error:
            failed |= isinstance(error, Disagreement)
            note(f"{workload.name}: {error}")
            continue
        results.append(result)
        print_row(result, list(engines), limits)
    print_foot(results, engines, limits, options)
    if options.json:
        options.json.write_text(json.dumps(as_json(results, engines, limits, options), indent=1) + "\n")
    return int(failed)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    default = int(os.environ.get("ATTNLIB_BENCH_THREADS", "1"))
    parser.add_argument("--threads", type=int, default=default, help="of every engine (default %(default)s)")
    parser.add_argument("--workloads", nargs="+", metavar="TEXT", help="only those whose names contain one of these")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES, help="(default: all)")
    parser.add_argument("--rotations", type=int, default=5, help="blocks of each engine (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a block (default %(default)s)")
    parser.add_argument("--rest", type=float, default=0.4, help="seconds before each block (default %(default)s)")
    parser.add_argument("--model", type=Path, help="folder of the sentence encoder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every block there")
    parser.add_argument("--list", action="store_true", help="list all workloads and stop")
    options = parser.parse_args()
    if options.rotations < 1 or options.threads < 1:
        parser.error("--rotations and --threads must be positive")
    return options


def load_engines(options: argparse.Namespace) -> dict[str, Engine]:
    from engines import Unavailable, load

    engines = {}
    for name in ENGINES:
        if name in options.engines:
            try:
                engines[name] = load(name, options.threads)
            except Unavailable as reason:
                note(f"left out: {reason}")
    return engines


def load_ceilings(threads: int) -> Ceilings | None:
    from ceilings import Ceilings

    try:
        return Ceilings(threads)
    except RuntimeError as error:
        note(f"no ceilings: {error}")
        return None


def compare(
    workload: Workload,
    engines: dict[str, Engine],
    ceilings: Ceilings | None,
    limits: Limits,
    options: argparse.Namespace,
) -> Result:
    """Check that the engines agree, then time each one's fastest way, and the ceilings, in turns."""
    from agreement import check, fastest
    from measure import measure_turns

    note(f"{workload.name} ...")
    inputs = workload.inputs()
    calls = {name: engine.calls(workload.operation, inputs) for name, engine in engines.items()}
    # What NumPy gives is what the formula says: it is the one to agree with, if it is there.
    order = sorted((name for name in calls if calls[name]), key=lambda name: name != "NumPy")
    expected = None
    for name in order:
        expected = check(name, calls[name], expected)
    best = {name: fastest(calls[name]) for name in engines if calls[name]}
    functions = [call.run for call in best.values()]
    if ceilings is not None:
        functions.append(ceilings.multiply_add if workload.flops or workload.texts else ceilings.read)
    timings = measure_turns(
        functions, rotations=options.rotations, seconds=options.seconds, rest=options.rest
    )
    if ceilings is not None:
        seconds = timings[-1].seconds
        if functions[-1] == ceilings.read:
            limits.bytes = max(limits.bytes, ceilings.bytes / seconds)
        else:
            limits.flops = max(limits.flops, ceilings.flops / seconds)
    ways = {name: call.way for name, call in best.items()}
    return Result(workload, dict(zip(best, timings, strict=False)), ways)


def print_head(engines: list[str]) -> None:
    columns = ["workload", *(f"{name} µs" for name in engines), "best peer / attnlib", "attnlib", "of ceiling"]
    print("| " + " | ".join(columns) + " |")
    print("|---|" + "---:|" * (len(columns) - 1), flush=True)


def print_row(result: Result, engines: list[str], limits: Limits) -> None:
    cells = [result.workload.name]
    for name in engines:
        timing = result.timings.get(name)
        cells.append(f"{timing.seconds * 1e6:,.0f} ±{50 * timing.spread:.0f} %" if timing else "")
    cells.append(f"{result.ratio:.2f}" if result.ratio else "")
    cells.extend(throughput(result, limits))
    print("| " + " | ".join(cells) + " |", flush=True)


def throughput(result: Result, limits: Limits) -> tuple[str, str]:
    """What attnlib (or the only engine) does per second, and its share of the ceiling."""
    workload = result.workload
    timing = result.timings.get(OURS)
    if timing is None:
        return "", ""
    if workload.texts:
        return f"{workload.texts / timing.seconds:,.0f} texts/s", ""
    done, limit, unit = (
        (workload.flops, limits.flops, "GFLOP/s") if workload.flops else (workload.bytes, limits.bytes, "GB/s")
    )
    rate = done / timing.seconds
    return f"{rate / 1e9:.1f} {unit}", f"{100 * rate / limit:.0f} %" if limit else ""


def print_foot(
    results: list[Result], engines: dict[str, Engine], limits: Limits, options: argparse.Namespace
) -> None:
    from statistics import geometric_mean

    ratios = [result.ratio for result in results if result.ratio]
    print()
    print(f"- {processor()}; threads: {options.threads}; {platform.python_implementation()} {sys.version.split()[0]}")
    print("- " + ", ".join(f"{name} {engine.version}" for name, engine in engines.items()))
    print(f"- ceilings: {limits.flops / 1e9:.0f} GFLOP/s (float32 FMA), {limits.bytes / 1e9:.1f} GB/s (read)")
    if ratios:
        print(f"- best peer / attnlib: smallest {min(ratios):.2f}, geometric mean {geometric_mean(ratios):.2f}")
    print(
        f"- best of {options.rotations} blocks' medians, ± half the interquartile range of that block; the worst "
        f"block's median lay {drift(results)} above the best one's"
    )
    print(f"- CPUs used by others meanwhile: {others(results)}")
    print("- called:")
    for result in results:
        ways = "; ".join(f"{name}: {way}" for name, way in result.ways.items() if name != OURS)
        print(f"  - {result.workload.name}: {ways}")


def drift(results: list[Result]) -> str:
    found = sorted(timing.drift for result in results for timing in result.timings.values())
    return f"{100 * found[len(found) // 2]:.0f} % (median; at most {100 * found[-1]:.0f} %)" if found else "?"


def others(results: list[Result]) -> str:
    """What the machine's other processes took: figures from a busy machine are worth little."""
    blocks = [block for result in results for timing in result.timings.values() for block in timing.blocks]
    found = [block.others for block in blocks if block.others is not None]
    if not found:
        return "unknown"
    mean = sum(found) / len(found)
    busy = ": NOT A QUIET MACHINE" if mean > 0.1 else ""
    return f"{mean:.2f} in the mean, at most {max(found):.2f}{busy}"


def as_json(
    results: list[Result], engines: dict[str, Engine], limits: Limits, options: argparse.Namespace
) -> dict[str, Any]:
    return {
        "processor": processor(),
        "threads": options.threads,
        "versions": {name: engine.version for name, engine in engines.items()},
        "ceilings": {"flops_per_second": limits.flops, "bytes_per_second": limits.bytes},
        "workloads": [
            {
                "name": result.workload.name,
                "flops": result.workload.flops,
                "bytes": result.workload.bytes,
                "texts": result.workload.texts,
                "ratio": result.ratio,
                "engines": {
                    name: {
                        "way": result.ways[name],
                        "seconds": timing.seconds,
                        "blocks": [asdict(block) for block in timing.blocks],
                    }
                    for name, timing in result.timings.items()
                },
            }
            for result in results
        ],
    }


def processor() -> str:
    """Name the CPU, and how many of them this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" in fields:
        name = f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {count} CPUs"


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
