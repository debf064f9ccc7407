"""Check that bulk embedding loses and doubles nothing while workers are killed.

    python tools/check_bulk_embedding.py MODEL --texts 20000

Runs ``examples/bulk_embedding.py`` on two workers, kills one with SIGKILL when two fifths of the
batches are done and the other at four fifths, and compares all vectors, bit for bit, with those of
one process that encodes the texts in one call, so in other batches.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import attnlib as al
import attnlib.models

EXAMPLE = Path(__file__).parent.parent / "examples" / "bulk_embedding.py"
WORKERS = 2
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "mat",
    "sun",
    "rain",
    "red",
    "sat",
    "ran",
    "on",
    "under",
    "slowly",
    "and",
    ".",
]


def make_texts(count: int) -> list[str]:
    """Draw short texts; each begins with its number, so that no two are equal."""
    rng = random.Random(0)
    return [f"{i} {' '.join(rng.choices(WORDS, k=rng.randint(1, 12)))}" for i in range(count)]


def run_and_kill(command: list[str], log: Path, shards: Path, kill_at: list[int]) -> tuple[int, list[int]]:
    """Run the example; kill a worker each time so many shards are there.

    Returns
    -------
    tuple of the number of times that a process loaded the model, and the numbers of shards at each kill
    """
    killed: list[int] = []
    kills: list[int] = []
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
    while process.poll() is None:
        done = len(list(shards.glob("*.npy"))) if shards.exists() else 0
        if len(kills) < len(kill_at) and done >= kill_at[len(kills)]:
            pids = [int(pid) for pid in re.findall(r"process (\d+) has loaded", log.read_text())]
            # The one that has been there longest: at the second kill, one that has not been killed yet.
            victim = next(pid for pid in pids if pid not in killed)
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            kills.append(done)
        time.sleep(0.002)
    output = log.read_text()
    if process.returncode != 0:
        raise RuntimeError(f"exit {process.returncode}:\n{output}")
    return output.count("has loaded the model"), kills


def check(model: Path, texts: list[str], folder: Path, *, dtype: str, batch_size: int) -> dict[str, object]:
    """Run the comparison in `folder`; returns its figures, or raises RuntimeError if something is wrong."""
    source, output = folder / "texts.jsonl", folder / "vectors"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    batches = -(-len(texts) // batch_size)
    command = [
        sys.executable,
        str(EXAMPLE),
        str(source),
        str(output),
        "--model",
        str(model),
        "--dtype",
        dtype,
    ]
    command += ["--batch-size", str(batch_size), "--workers", str(WORKERS), "--threads", "1"]

    started = time.perf_counter()
    loaded, kills = run_and_kill(
        command, folder / "log", output / "shards", [batches * 2 // 5, batches * 4 // 5]
    )
    together = time.perf_counter() - started
    if len(kills) != 2 or max(kills) >= batches:
        raise RuntimeError(f"the run was over before both workers were killed: {kills} of {batches}")
    if loaded <= WORKERS:
        raise RuntimeError(f"no worker was started again: the model was loaded {loaded} times")

    started = time.perf_counter()
    encoder = attnlib.models.load_sentence_encoder(model, dtype=dtype)
    with al.num_threads(WORKERS):
        expected = encoder.encode(texts)
    alone = time.perf_counter() - started

    vectors = np.load(output / "vectors.npy")
    shards = [np.load(path) for path in sorted((output / "shards").glob("*.npy"))]
    if len(shards) != batches or sum(map(len, shards)) != len(texts):
        raise RuntimeError(f"{len(shards)} shards with {sum(map(len, shards))} vectors")
    if vectors.shape != expected.shape or vectors.tobytes() != expected.tobytes():
        raise RuntimeError("the vectors are not those of one process, bit for bit")
    return {
        "texts": len(texts),
        "vectors": len(vectors),
        "shards": len(shards),
        "shards there at each kill": kills,
        "models loaded": loaded,
        "seconds, two workers with kills": round(together, 1),
        "texts/s, two workers with kills": round(len(texts) / together),
        "seconds, one process": round(alone, 1),
        "texts/s, one process": round(len(texts) / alone),
        "equal": "bit for bit",
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a folder of a sentence encoder, such as all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=int, default=20_000, help="how many (default: 20000)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--batch-size", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = check(
            options.model,
            make_texts(options.texts),
            Path(folder),
            dtype=options.dtype,
            batch_size=options.batch_size,
        )
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
