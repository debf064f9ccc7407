"""Marian's folders without tokenizer.json: SentencePiece models trained here, and vocab.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import models
from attnlib.models.files.config import Fields
from attnlib.models.text.marian_tokenizer import marian_tokenizer

from . import encoder_decoders
from .encoder_decoders import VOCAB, WORDS

sentencepiece = pytest.importorskip("sentencepiece")

TEXTS = [
    "bak del dos",
    " bim  bum ",
    "Unheard-of words, été 30°!",
    "",
    ">>deu<< kat",
    ">>xyz<< bak",
    "bak <<",
    "<unk> </s> dus",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Marian model whose pieces have other numbers than SentencePiece gives them."""
    folder = encoder_decoders.write_folder(tmp_path_factory.mktemp("spm") / "model", "marian")
    (folder / "tokenizer.json").unlink()
    rng = np.random.default_rng(5)
    lines = [" ".join(rng.choice(WORDS[3:], 6)) for _ in range(300)]
    (folder / "lines.txt").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"),
        model_prefix=str(folder / "source"),
        vocab_size=70,
        minloglevel=2,
        character_coverage=1.0,
    )
    (folder / "source.model").rename(folder / "source.spm")
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    names = [pieces.id_to_piece(i) for i in range(3, 70)]
    vocabulary = {piece: i for i, piece in enumerate(["<pad>", "</s>", ">>deu<<", "<unk>", *reversed(names)])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> models.TextToTextModel:
    model = models.load(folder)
    assert isinstance(model, models.TextToTextModel)
    return model


def test_texts_become_pieces(model: models.TextToTextModel, folder: Path) -> None:
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    vocabulary = json.loads((folder / "vocab.json").read_text())
    for text in TEXTS:
        code = [2] if text.startswith(">>deu<<") else [3] if text.startswith(">>xyz<<") else []
        rest = text[7:] if code else text
        wanted = [*code, *(vocabulary.get(p, 3) for p in pieces.encode(rest, out_type=str)), 1]
        assert model.encode(text) == wanted


def test_pieces_become_texts(model: models.TextToTextModel, folder: Path) -> None:
    assert model.tokenizer is not None
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    names = {i: piece for piece, i in json.loads((folder / "vocab.json").read_text()).items()}
    rng = np.random.default_rng(6)
    for length in range(12):
        ids = rng.integers(4, len(names), length).tolist()
        wanted = pieces.decode_pieces([names[i] for i in ids])
        assert model.tokenizer.decode([0, *ids, 1]) == wanted
        stream = model.tokenizer.stream()
        assert "".join(stream.push(i) for i in [0, *ids, 1]) + stream.rest() == wanted


def test_a_translation(model: models.TextToTextModel) -> None:
    result = model.generate("bak del dos", max_new_tokens=12)
    assert result.text == "".join(model.stream("bak del dos", max_new_tokens=12))
    assert result.tokens == model.generate(model.encode("bak del dos"), max_new_tokens=12).tokens


@pytest.mark.real_model
def test_transformers_agrees(model: models.TextToTextModel, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    with pytest.warns(UserWarning, match="sacremoses"):
        peer = transformers.MarianTokenizer(
            str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json")
        )
    for text in TEXTS[:7]:
        assert model.encode(text) == peer(text).input_ids


def read(folder: Path, size: int = VOCAB, target: int = VOCAB) -> Any:
    return marian_tokenizer(folder, Fields(folder / "config.json", {}), size, target)


def test_two_vocabularies(folder: Path, tmp_path: Path) -> None:
    for name in ("source.spm", "vocab.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(FileNotFoundError, match=r"target_vocab\.json: there is no such file"):
        read(tmp_path, VOCAB, 40)
    words = {"</s>": 0, "<unk>": 1, "▁ein": 2, "▁Wort": 3, "e": 4}
    (tmp_path / "target_vocab.json").write_text(json.dumps(words))
    tokenizer = read(tmp_path, VOCAB, 5)
    assert tokenizer.end_ids == (0,)
    assert tokenizer.decode([2, 4, 3, 4, 0]) == "eine Worte"
    assert tokenizer.encode("")[-1] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.json", "[]", r"vocab\.json: expected a JSON object, found list"),
        ("vocab.json", "{}", r"vocab\.json: </s> is missing"),
        ("vocab.json", '{"</s>": 0}', r"vocab\.json: <unk> is missing"),
        ("vocab.json", '{"</s>": 99}', r"vocab\.json: '</s>' must have a number below 83, found 99"),
        ("vocab.json", '{"</s>": true}', r"vocab\.json: '</s>' must have a number below 83, found True"),
        ("vocab.json", "{", r"vocab\.json: not a JSON file"),
        ("source.spm", "no model", r"source\.spm: not a SentencePiece model"),
    ],
)
def test_bad_folders(folder: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    for file in ("source.spm", "vocab.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vocab\.json: there is no such file"):
        read(tmp_path)


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r'sentencepiece is needed; install it with: pip install "attnlib'):
        models.load(folder)
