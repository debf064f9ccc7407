"""The command `attnlib show`."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from models import decoders, encoder_decoders, folders

from attnlib import cli, models, viz

from .test_head_view import page_data

TEXT = "the cat sat on <a> mat"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.make(tmp_path_factory.mktemp("show") / "tiny-bert").write()


def test_an_encoder(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default a file named after the model, in this folder; one that is there is replaced."""
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "tiny-bert-attention.html"
    output.write_text("older")
    assert cli.main(["show", "--model", str(encoder), TEXT]) == 0
    assert capsys.readouterr() == ("tiny-bert-attention.html\n", "")
    page = output.read_text(encoding="utf-8")
    maps = viz.attention_weights(models.load(encoder), TEXT)
    assert page == viz.head_view(maps, title=f"tiny-bert: {TEXT}").html
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_a_language_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GGUF file, a text from standard input, one layer of two, a file of one's own."""
    model = decoders.write_gguf(tmp_path / "tiny.gguf")
    output = tmp_path / "page.html"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hello " * 21)))
    options = ["--output", str(output), "--layer", "1", "--dtype", "bfloat16", "--threads", "1"]
    assert cli.main(["show", "--model", str(model), *options, "-"]) == 0
    page = output.read_text(encoding="utf-8")
    (found,) = page_data(page)["maps"]
    assert (found["kind"], found["layers"], found["heads"]) == ("decoder", [1], 4)
    assert "".join(found["queries"]) == "Hello·" * 21
    assert f"<title>tiny: {('Hello ' * 21)[:119]}…</title>" in page


def test_an_encoder_decoder(tmp_path: Path) -> None:
    model = encoder_decoders.write_folder(tmp_path / "tiny-t5", "t5")
    output = tmp_path / "page.html"
    arguments = ["--output", str(output), "--layer", "1", "bak bal"]
    assert cli.main(["show", "--model", str(model), *arguments]) == 0
    found = page_data(output.read_text(encoding="utf-8"))["maps"]
    assert [maps["kind"] for maps in found] == ["encoder", "decoder", "cross"]
    assert found[2]["keys"] == ["bak", "bal", "</s>"]


def test_several_layers(encoder: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    layers = ["--layer", "1", "--layer", "0"]
    assert cli.main(["show", "--model", str(encoder), "--output", str(output), *layers, TEXT]) == 0
    assert page_data(output.read_text(encoding="utf-8"))["maps"][0]["layers"] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--model", "none", TEXT], "none: there is no such folder"),
        (["--model", "MODEL", "--output", "none/page.html", TEXT], "its folder does not exist"),
        (["--model", "MODEL", "--output", ".", TEXT], "is a folder"),
        (["--model", "MODEL", "--layer", "2", TEXT], "no layer 2, but 0 to 1"),
        (["--model", "MODEL", "\ud800"], "not valid Unicode"),
        (["--model", "WRITER", "bak " * 512], "the text has 513 tokens; a page shows at most 512"),
    ],
)
def test_errors_leave_nothing(
    arguments: list[str],
    part: str,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    writer = encoder.with_name("tiny-t5")
    if "WRITER" in arguments and not writer.is_dir():
        encoder_decoders.write_folder(writer, "t5")
    given: list[Any] = [{"MODEL": encoder, "WRITER": writer}.get(word, word) for word in arguments]
    assert cli.main(["show", *map(str, given)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("attnlib: error: ")
    assert part in err
    assert not any(tmp_path.iterdir())
