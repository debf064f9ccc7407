"""What commands write: whole files or none, and nothing but files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attnlib.commands.files import whole_or_nothing


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
