"""Readers: small valid folders are made once, then one of their files is mutated for each case."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..coverage import Coverage
from ..finding import Finding
from ..json_mutations import mutate_json
from ..mutations import mutate_bytes
from .base import Target

__all__ = ["ReaderTarget"]

Rng = np.random.Generator

# Mutated files that reach new lines are kept for further mutation, up to so many.
_MOST_KEPT = 600


@dataclass
class Entry:
    """A valid folder by its name, and the files of it that are changed."""

    folder: str
    changed: dict[str, bytes] = field(default_factory=dict)


class ReaderTarget(Target):
    """A kind of file that is read.

    A case writes a folder and calls `load` on it, which may raise ValueError or FileNotFoundError with the
    path of the folder in the message; then `use` on what was loaded, which may raise ValueError. Anything
    else that is raised is a finding, as are warnings while loading.
    """

    # Names of the files that are mutated, or their ends.
    mutated: tuple[str, ...] = ()

    def start(self, scratch: Path) -> None:
        """Make the valid folders and read each, which must go well."""
        self.input = scratch / "input"
        self._folders: dict[str, dict[str, bytes]] = {}
        for name, make in self.seeds().items():
            place = scratch / "seeds" / name
            place.mkdir(parents=True)
            make(place)
            self._folders[name] = {
                str(path.relative_to(place)): path.read_bytes()
                for path in sorted(place.rglob("*"))
                if path.is_file()
            }
        self._coverage = Coverage()
        self._written: dict[str, bytes] = {}
        self._pool = [Entry(name) for name in self._folders]
        self.refused = self.read = 0

    def warm_up(self) -> None:
        """Read the valid folders."""
        for entry in list(self._pool):
            self._write(entry)
            with self._coverage:
                self.use(self.load(self._place()))
        for name, files in self._folders.items():
            wanted = [file for file in files if file.endswith(self.mutated)]
            if not wanted:
                raise AssertionError(f"{name} has no file to be mutated")

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return what writes a valid folder, by its name."""
        raise NotImplementedError

    def load(self, folder: Path) -> Any:
        """Read the folder."""
        raise NotImplementedError

    def use(self, loaded: Any) -> None:
        """Use what was read, and raise a `Finding` if it is wrong."""

    def mutate(self, rng: Rng, name: str, data: bytes) -> bytes:
        """Change a file."""
        if name.endswith(".json") and rng.random() < 0.8:
            return mutate_json(rng, data)
        return mutate_bytes(rng, data)

    def state(self) -> str:
        """Tell how much of the readers' lines is reached."""
        known = len(self._coverage.known)
        return f"{self.read} read, {self.refused} refused, {known} edges, {len(self._pool)} kept"

    def case(self, rng: Rng) -> None:
        """Mutate, read, use."""
        # The valid folders, or one that has reached something new.
        plain = len(self._folders)
        kept = len(self._pool) - plain
        if kept and rng.random() < 0.35:
            entry = self._pool[plain + int(kept * rng.random() ** 0.5)]  # rather a late one
        else:
            entry = self._pool[int(rng.integers(plain))]
        files = self._folders[entry.folder]
        names = [name for name in files if name.endswith(self.mutated)]
        name = names[int(rng.integers(len(names)))]
        data = entry.changed.get(name, files[name])
        entry = Entry(entry.folder, {**entry.changed, name: self.mutate(rng, name, data)})
        self.repeat(entry.folder, entry.changed)
        if (
            self._coverage.fresh
            and len(self._pool) < plain + _MOST_KEPT
            and len(entry.changed[name]) < 1 << 20
        ):
            self._pool.append(entry)

    def add_folder(self, name: str, files: dict[str, bytes]) -> None:
        """Have one more folder, which need not be valid, for `repeat`."""
        self._folders[name] = files

    def repeat(self, folder: str, changed: dict[str, bytes]) -> None:
        """Read a valid folder of which some files are others."""
        self.description = f"folder {folder}, changed: {', '.join(changed)}"
        self._write(Entry(folder, changed))
        place = self._place()
        with self._coverage:
            try:
                loaded = self.load(place)
            except (ValueError, FileNotFoundError) as error:
                self.refused += 1
                if type(error) not in (ValueError, FileNotFoundError):
                    raise
                if str(place) not in str(error):
                    raise Finding(f"message without the file: {error}") from error
                return
            self.read += 1
            with warnings.catch_warnings():
                # Weights may be anything, and so what is computed with them.
                warnings.simplefilter("ignore", RuntimeWarning)
                try:
                    self.use(loaded)
                except ValueError as error:
                    if type(error) is not ValueError:
                        raise

    def _place(self) -> Path:
        assert self.input is not None
        return self.input / "model"

    def _write(self, entry: Entry) -> None:
        """Bring the folder of cases to what `entry` wants, writing what differs.

        New files, never old ones written over: a model of an earlier case may still have these mapped.
        """
        wanted = {**self._folders[entry.folder], **entry.changed}
        place = self._place()
        for name in [name for name, data in self._written.items() if wanted.get(name) is not data]:
            (place / name).unlink()
            del self._written[name]
        for name, data in wanted.items():
            if name not in self._written:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(data)
                self._written[name] = data
