"""Reading the JSON files of a model folder, with errors that name the file and the field.

What stands in a folder comes from elsewhere and may be anything: every field is checked for its type and for
a range outside of which no model lies, before any memory is taken for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

__all__ = ["Fields", "JsonFile", "parse_json", "stays_inside"]

Option = TypeVar("Option")

# Bytes that the name of a file may have at most, on the file systems there are.
_LONGEST_NAME = 255


def stays_inside(place: str) -> bool:
    """Return whether a path that stands in a file of a folder is one of a file in that folder."""
    path = PurePosixPath(place)
    if path.is_absolute() or ".." in path.parts or "\0" in place:
        return False
    return all(len(part.encode("utf-8", "replace")) <= _LONGEST_NAME for part in path.parts)


def parse_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file or it is not JSON. The message begins with its path.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None


class Fields:
    """Named values that came out of a file: a JSON object, or the header of a GGUF file.

    Parameters
    ----------
    path
        The file, for messages.
    fields
        What was read. Nothing is believed of the types of the values.
    """

    def __init__(self, path: Path, fields: Mapping[str, Any]) -> None:
        self.path = path
        self._fields = fields

    def __contains__(self, field: str) -> bool:
        return self._fields.get(field) is not None

    def __iter__(self) -> Iterator[str]:
        return (field for field in self._fields if field in self)

    def without(self, prefix: str) -> Fields:
        """Return the fields whose names do not begin with `prefix`."""
        return Fields(self.path, {k: v for k, v in self._fields.items() if not k.startswith(prefix)})

    def error(self, field: str, problem: str) -> ValueError:
        """Make an error about a field of this file."""
        return ValueError(f"{self.path}: {field} {problem}")

    def get(self, field: str, default: Any = None) -> Any:
        """Return a field as it is; without a default a missing or null field is an error."""
        value = self._fields.get(field)
        if value is not None:
            return value
        if default is None:
            raise self.error(field, "is missing")
        return default

    def integer(self, field: str, low: int, high: int, default: int | None = None) -> int:
        """Return an integer from `low` to `high`."""
        value = self.get(field, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.error(field, f"must be an integer, found {_shown(value)}")
        if not low <= value <= high:
            raise self.error(field, f"must be from {low} to {high}, found {_shown(value)}")
        return value

    def number(self, field: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number from `low` to `high`."""
        value = self.get(field, default)
        nan = isinstance(value, float) and math.isnan(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or nan:
            raise self.error(field, f"must be a number, found {_shown(value)}")
        if not low <= value <= high:
            raise self.error(field, f"must be from {low} to {high}, found {_shown(value)}")
        return float(value)

    def boolean(self, field: str, default: bool) -> bool:
        """Return true or false."""
        value = self.get(field, default)
        if not isinstance(value, bool):
            raise self.error(field, f"must be true or false, found {_shown(value)}")
        return value

    def text(self, field: str, default: str | None = None) -> str:
        """Return a string."""
        value = self.get(field, default)
        if not isinstance(value, str):
            raise self.error(field, f"must be a string, found {_shown(value)}")
        return value

    def choice(self, field: str, options: Mapping[str, Option], default: str | None = None) -> Option:
        """Return what `options` has under the string in this field."""
        value = self.get(field, default)
        if not isinstance(value, str) or value not in options:
            raise self.error(field, f"{_shown(value)} is not supported; known are {', '.join(options)}")
        return options[value]


class JsonFile(Fields):
    """A JSON file that holds one object, and its fields.

    Parameters
    ----------
    path
        The file. It must hold an object.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        data = parse_json(path)
        if not isinstance(data, dict):
            raise ValueError(f"{path}: expected a JSON object, found {type(data).__name__}")
        super().__init__(path, data)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
