"""Bulk embedding: any number of texts in, one vector each out, on worker processes that may die.

    pip install "attnlib[models]" "dask[distributed]"
    python bulk_embedding.py texts.jsonl vectors --model all-MiniLM-L6-v2 --workers 2
    python bulk_embedding.py texts.jsonl vectors --model all-MiniLM-L6-v2 --scheduler tcp://host:8786

A text is a line of the file; in a file that ends in ``.jsonl`` it is the field ``"text"`` of the
object on a line. Made are ``vectors/vectors.npy``, (n, d) float32 in the order of the texts, and
``vectors/index.json``, which says what is in it and by which model. With --scheduler the workers
are those of a Dask cluster, which must see the same folders.

How nothing is lost or doubled: the texts are cut into batches, and the vectors of a batch are one
file, a shard, which gets its name when it is whole. The name holds the batch's number and a digest
of the model, the dtype and the texts, so a shard that is there is right, wherever and however often
it was made. A batch whose worker died is computed again by another worker; a run that was stopped
goes on where it stood. Before the shards are joined, the file is read once more: each batch must
have its shard, with one row for each text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from dask.distributed import Client, LocalCluster, WorkerPlugin, as_completed, get_worker

import attnlib as al
import attnlib.models

# Batches that each worker has been given: one to work on, and one that waits so that it need not.
IN_FLIGHT = 2


class Batch(NamedTuple):
    """Some texts that follow each other in the file, and the name of the file of their vectors."""

    shard: str
    texts: list[str]


# --- input --------------------------------------------------------------------------------------------------


def read_texts(path: Path) -> Iterator[str]:
    """Read the texts one by one: the file may be larger than memory."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.rstrip("\n")
            if path.suffix == ".jsonl":
                try:
                    text = json.loads(line)["text"]
                except (ValueError, KeyError, TypeError):
                    text = None
                if not isinstance(text, str):
                    raise ValueError(f'{path}: line {number} is not a JSON object with a string "text"')
            yield text


def read_batches(path: Path, batch_size: int, run: str) -> Iterator[Batch]:
    """Cut the texts into batches; `run` is a digest of all else that the vectors depend on."""
    texts = read_texts(path)
    number = 0
    while batch := list(islice(texts, batch_size)):
        digest = hashlib.sha256(f"{run} {json.dumps(batch)}".encode()).hexdigest()
        yield Batch(f"{number:06}-{digest[:16]}.npy", batch)
        number += 1


def digest_of(model: Path, dtype: str) -> str:
    """Make a digest of the files of a model and the dtype that it computes in."""
    digest = hashlib.sha256(dtype.encode())
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        digest.update(f" {path.relative_to(model)} {path.stat().st_size} ".encode())
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


# --- what a worker does -------------------------------------------------------------------------------------


class Encoder(WorkerPlugin):
    """The model, loaded once in each worker process: when it starts, and when it starts again after it died.

    The file of the weights is mapped, not read into memory: workers on one machine share its pages while they
    load. Each holds its own packed copy of the matrices (a quarter of the size with int8); with float32 the
    table of words stays in the file, and is shared.
    """

    name = "encoder"

    def __init__(self, model: Path, dtype: str, threads: int) -> None:
        self.model, self.dtype, self.threads = model, dtype, threads

    def setup(self, worker: object = None) -> None:
        """Load the model; Dask calls it in each worker that joins."""
        al.set_num_threads(self.threads)  # Dask sets OMP_NUM_THREADS=1 for its workers
        self.encoder = attnlib.models.load_sentence_encoder(self.model, dtype=self.dtype)
        print(f"process {os.getpid()} has loaded the model", file=sys.stderr, flush=True)

    def embed(self, texts: list[str], shard: Path) -> None:
        """Write the vectors of a batch, whole or not at all: a name in the folder is that of a whole file."""
        if shard.exists():
            return
        vectors = self.encoder.encode(texts)
        part = shard.with_name(f"{shard.name}.{os.uname().nodename}.{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, vectors)
            file.flush()
            os.fsync(file.fileno())
        part.replace(shard)


def embed(batch: Batch, shards: Path) -> None:
    """Embed one batch: the task that Dask gives to a worker."""
    get_worker().plugins[Encoder.name].embed(batch.texts, shards / batch.shard)


# --- the run ------------------------------------------------------------------------------------------------


def run(client: Client, batches: Iterable[Batch], shards: Path, in_flight: int) -> None:
    """Have all batches embedded, at most `in_flight` at a time: the next is read when one is done."""
    batches = iter(batches)

    def submit(count: int) -> list[object]:
        return [
            client.submit(embed, batch, shards, key=f"embed-{batch.shard}")
            for batch in islice(batches, count)
        ]

    done = as_completed(submit(in_flight))
    for future in done:
        future.result()  # raises what the task raised
        done.update(submit(1))


def merge(batches: Iterable[Batch], output: Path, shards: Path, about: dict[str, object]) -> int:
    """Check that each text has exactly one vector, then write them in order; returns how many there are."""
    wanted: list[tuple[str, int]] = [(batch.shard, len(batch.texts)) for batch in batches]
    found = {path.name for path in shards.glob("*.npy")}
    if missing := sorted({name for name, _ in wanted} - found):
        raise ValueError(f"{shards}: {len(missing)} shards are missing, the first is {missing[0]}")
    if foreign := sorted(found - {name for name, _ in wanted}):
        raise ValueError(
            f"{shards}: {len(foreign)} shards are of other texts, another model or other options, "
            f"the first is {foreign[0]}; give each run a folder of its own"
        )
    total = sum(rows for _, rows in wanted)
    dimension = np.load(shards / wanted[0][0], mmap_mode="r").shape[1] if wanted else 0
    part = output / "vectors.npy.part"
    if total:
        vectors = np.lib.format.open_memmap(part, mode="w+", dtype="float32", shape=(total, dimension))
        start = 0
        for name, rows in wanted:
            shard = np.load(shards / name)
            if shard.shape != (rows, dimension) or not np.isfinite(shard).all():
                raise ValueError(
                    f"{name}: expected {rows} finite vectors of {dimension}, got shape {shard.shape}"
                )
            vectors[start : start + rows] = shard
            start += rows
        vectors.flush()
    else:
        with part.open("wb") as file:
            np.save(file, np.empty((0, 0), np.float32))
    index = {**about, "texts": total, "dimension": dimension, "shards": wanted}
    (output / "index.json.part").write_text(json.dumps(index, indent=1))
    part.replace(output / "vectors.npy")
    (output / "index.json.part").replace(output / "index.json")
    return total


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    cores = al.get_num_threads()  # what the affinity mask and the cgroup's quota leave to this process
    parser = argparse.ArgumentParser(description="Embed the lines of a file on worker processes.")
    parser.add_argument("texts", type=Path, help="a file of lines, or of JSON objects if it ends in .jsonl")
    parser.add_argument("output", type=Path, help="a folder; run again with the same one to go on")
    parser.add_argument("--model", type=Path, required=True, help="a folder of a sentence encoder")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "int8"))
    parser.add_argument("--batch-size", type=int, default=256, help="texts in a shard (default: 256)")
    parser.add_argument("--workers", type=int, default=cores, help=f"processes (default here: {cores})")
    parser.add_argument("--threads", type=int, help="of each worker (default: cores / workers)")
    parser.add_argument("--scheduler", help="the address of a Dask cluster to use instead of local processes")
    options = parser.parse_args()
    if options.batch_size < 1 or options.workers < 1 or (options.threads or 1) < 1:
        parser.error("--batch-size, --workers and --threads must be at least 1")
    if options.threads is None:
        options.threads = max(1, cores // options.workers)
    if not options.scheduler and options.workers * options.threads > cores:
        print(
            f"note: {options.workers} workers of {options.threads} threads on {cores} cores", file=sys.stderr
        )
    return options


def main() -> None:
    """Run the command."""
    options = parse_arguments()
    model, shards = options.model.resolve(), options.output.resolve() / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    digest = digest_of(model, options.dtype)

    def batches() -> Iterator[Batch]:
        return read_batches(options.texts, options.batch_size, digest)

    # One task at a time in a worker: the threads belong to the library. A worker that dies is started again
    # by its nanny, and the plugin with it.
    cluster = options.scheduler or LocalCluster(
        n_workers=options.workers, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with Client(cluster) as client:
        client.register_plugin(Encoder(model, options.dtype, options.threads))
        workers = max(1, len(client.nthreads()))
        left = (batch for batch in batches() if not (shards / batch.shard).exists())
        run(client, left, shards, in_flight=IN_FLIGHT * workers)
    if not options.scheduler:
        cluster.close()

    for part in shards.glob("*.part"):  # of workers that died while they wrote
        part.unlink()
    about = {"model": str(options.model), "dtype": options.dtype, "digest": digest}
    total = merge(batches(), options.output, shards, about)
    print(f"{total} texts, one vector each: {options.output / 'vectors.npy'}")


if __name__ == "__main__":
    main()
