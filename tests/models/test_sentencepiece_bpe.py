"""SentencePiece's tokenizer from a GGUF header, against SentencePiece itself on a small vocabulary."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies

from attnlib.models.files.config import Fields
from attnlib.models.text.text_tokenizer import gguf_tokenizer

sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
pytest.importorskip("tokenizers", reason="tokenizers is not installed")

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "a fox and a dog and a lazy bear",
    "def over(fox):    return fox  # the dog",
    "le renard brun saute par-dessus le chien paresseux, et voilà l'été",
    "banana bandana anagram aaaa aaa aa",
] * 20


def train() -> Any:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type="bpe",
        vocab_size=420,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        minloglevel=2,
        num_threads=1,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


ORACLE = train()


def header(**changes: Any) -> Fields:
    """The fields that llama.cpp's converter writes of the model."""
    count = ORACLE.get_piece_size()
    kinds = [
        2 if ORACLE.is_unknown(n) else 3 if ORACLE.is_control(n) else 6 if ORACLE.is_byte(n) else 1
        for n in range(count)
    ]
    fields = {
        "model": "llama",
        "tokens": [ORACLE.id_to_piece(n) for n in range(count)],
        "scores": [ORACLE.get_score(n) for n in range(count)],
        "token_type": kinds,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return Fields(Path("x.gguf"), {f"tokenizer.ggml.{k}": v for k, v in (fields | changes).items()})


TOKENIZER = gguf_tokenizer(header())


LETTERS = "ab nfox  dthe▁éà🐍\n\t#("
TEXTS = strategies.text(alphabet=LETTERS, max_size=40) | strategies.text(max_size=20)
WORDS = strategies.lists(strategies.sampled_from(" ".join(CORPUS[:5]).split()), max_size=8).map(" ".join)


@given(text=TEXTS | WORDS)
@example(text="aaaaaaaaaaaaaaa      aaaaa  the")
@example(text="日本語")
def test_tokens_are_those_of_sentencepiece(text: str) -> None:
    found = TOKENIZER.encode(text, special=False)
    assert found == ORACLE.encode(text)


@given(text=TEXTS | WORDS)
def test_texts_come_back(text: str) -> None:
    tokens = TOKENIZER.encode(text)
    assert tokens[:1] == [1]
    wanted = text.replace("▁", " ")
    assert TOKENIZER.decode(tokens) == wanted
    stream = TOKENIZER.stream()
    assert "".join(stream.push(token) for token in tokens) + stream.rest() == wanted


def test_without_a_blank_before_a_text() -> None:
    tokenizer = gguf_tokenizer(header(add_space_prefix=False, add_bos_token=False))
    tokens = tokenizer.encode("the fox")
    assert tokens[0] not in (1, ORACLE.encode("the fox")[0])
    assert tokenizer.decode(tokens) == "the fox"
    assert tokenizer.decode(tokenizer.encode(" the")) == " the"


def test_special_tokens() -> None:
    tokens = TOKENIZER.encode("the</s>")
    assert (tokens[0], tokens[-1]) == (1, 2)
    assert TOKENIZER.end_ids == (2,)
    assert TOKENIZER.decode(tokens) == "the"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": [0.0]}, "scores must hold 420 numbers"),
        ({"scores": None}, "scores is missing"),
        ({"scores": [0.0] * 419 + [float("nan")]}, "scores must be finite numbers, found nan at 419"),
        ({"scores": ["a"] * 420}, "scores must be finite numbers, found 'a' at 0"),
        ({"model": "t5"}, "tokenizer.ggml.model 't5' is not supported; known are gpt2, llama"),
        ({"token_type": [1]}, "token_type must hold 420 integers"),
    ],
)
def test_bad_headers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"x.gguf: .*{message}"):
        gguf_tokenizer(header(**changes))


def test_tokens_that_cannot_be_made() -> None:
    tokens, kinds = (header().get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type"))
    place = kinds.index(1)
    stranger = [*tokens[:place], "aЖ", *tokens[place + 1 :]]
    with pytest.raises(ValueError, match="has 'aЖ', but not 'Ж': that is not supported"):
        gguf_tokenizer(header(tokens=stranger))
    without = [token if token != "<0x41>" else "[0x41]" for token in tokens]
    with pytest.raises(ValueError, match="lacks the byte token <0x41>"):
        gguf_tokenizer(header(tokens=without))
