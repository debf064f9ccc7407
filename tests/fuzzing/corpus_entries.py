"""Files that once did what they must not, kept to be read again."""

from __future__ import annotations

from pathlib import Path

from .targets.base import Target
from .targets.reader import ReaderTarget

__all__ = ["CORPUS", "corpus", "repeat_entry", "repeat_kept"]

CORPUS = Path(__file__).parent / "corpus"


def corpus(target: str) -> list[Path]:
    """List the entries of a target: folders named ``valid-folder.what-it-does``, of the files that differ."""
    place = CORPUS / target
    return sorted(place.iterdir()) if place.is_dir() else []


def repeat_entry(target: ReaderTarget, entry: Path) -> None:
    """Read an entry again; the valid folder with that name has the other files."""
    target.repeat(entry.name.partition(".")[0], _files(entry))


def repeat_kept(target: Target, folder: Path) -> None:
    """Read a folder that `hunt` has kept."""
    if not isinstance(target, ReaderTarget):
        raise TypeError("fuzzing: only findings of readers are kept as files; use the seed and the case")
    target.add_folder("kept", _files(folder))
    target.repeat("kept", {})


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
