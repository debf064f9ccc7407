"""What is written: whole files or none, and nothing but files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from attnlib import nn
from attnlib.nn.npz_file import write_npz
from attnlib.whole_file import whole_or_nothing


def test_what_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def interrupted() -> None:
        with whole_or_nothing(path, "w") as file:
            file.write("half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    with whole_or_nothing(path, "w") as file:
        file.write("new")
    assert [(other.name, other.read_text()) for other in tmp_path.iterdir()] == [("page.html", "new")]


def test_an_array_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    """Those before it in the file are written already."""
    nn.KVCache(1, 1, 1, 4).save(tmp_path / "cache.npz")
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(tmp_path / "cache.npz", {"format": np.array("attnlib"), "key.0": np.array([None])})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == old


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with whole_or_nothing(tmp_path / "link", "wb") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(ValueError, match="pipe: there is something that is not a regular file"),
        whole_or_nothing(tmp_path / "pipe", "w"),
    ):
        pass
    assert (tmp_path / "pipe").is_fifo()
