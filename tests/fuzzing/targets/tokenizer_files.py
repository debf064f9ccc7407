"""Tokenizers: ``tokenizer.json``, chat templates, SentencePiece models, GGUF's vocabularies."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from models import decoders, encoder_decoders, folders, speech
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from tokenizers import decoders as token_decoders

from attnlib.models.files.config import JsonFile
from attnlib.models.files.gguf_file import GgufFile
from attnlib.models.text.marian_tokenizer import marian_tokenizer
from attnlib.models.text.sentence_tokenizer import Tokenizer as SentenceTokenizer
from attnlib.models.text.text_tokenizer import folder_tokenizer, gguf_tokenizer

from ..finding import Finding
from ..gguf_mutations import mutate_gguf
from .reader import ReaderTarget, Rng

__all__ = ["TokenizerFiles"]

_TEXTS = ("the cat sat", "", "ab é  \n\t 30° <end> 日本", "bak dos <unk> >>deu<< kat")
_SIZE = 4096


def _tokenizer(kind: str) -> Tokenizer:
    match kind:
        case "words":
            return folders.tokenizer()
        case "bytes":
            return decoders.byte_tokenizer()
        case "speech":
            return speech.tokenizer()
        case "template":
            return encoder_decoders.tokenizer()
        case "pieces":
            words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "##a", "##t", "s", "a"]
            made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
            made.normalizer = normalizers.BertNormalizer()
            made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            made.decoder = token_decoders.WordPiece()
            made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        case "unigram":
            pieces = [("<unk>", 0.0), ("▁the", -1.0), ("▁", -2.0), *((letter, -3.0) for letter in "abcest")]
            made = Tokenizer(models.Unigram(pieces, 0, byte_fallback=False))
            made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
            made.pre_tokenizer = pre_tokenizers.Metaspace()
            made.decoder = token_decoders.Metaspace()
        case "bpe":
            words = ["<unk>", "a", "b", "t", "h", "e", "th", "the", "ab", " "]
            made = Tokenizer(
                models.BPE(
                    {w: i for i, w in enumerate(words)},
                    [("t", "h"), ("th", "e"), ("a", "b")],
                    unk_token="<unk>",
                )
            )
            made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    made.add_special_tokens(["<s>", "</s>"])
    return made


def _write(kind: str, folder: Path) -> None:
    _tokenizer(kind).save(str(folder / "tokenizer.json"))
    folders.write_json(folder / "config.json", {"eos_token_id": [1, 2]})
    template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    fields = {"chat_template": template, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    folders.write_json(folder / "tokenizer_config.json", fields)
    folders.write_json(folder / "generation_config.json", {"eos_token_id": 2})


def _jinja(folder: Path) -> None:
    _write("bytes", folder)
    (folder / "chat_template.jinja").write_text(
        "{% set n = namespace(k=0) %}{%- for m in messages %}{% set n.k = n.k + 1 %}"
        "{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        "{{ n.k ~ ': ' ~ m.content | trim | upper }}{{ loop.index0 % 2 * 3 }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>' * 2 }}{% endif %}"
    )


def _sentencepiece(folder: Path) -> None:
    import sentencepiece

    rng, model = np.random.default_rng(5), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(rng.choice(encoder_decoders.WORDS[3:], 6)) for _ in range(200)),
        model_writer=model,
        vocab_size=70,
        minloglevel=2,
    )
    (folder / "source.spm").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    names = [pieces.id_to_piece(i) for i in range(3, 70)]
    for name in ("vocab.json", "target_vocab.json"):
        vocabulary = {piece: i for i, piece in enumerate(["<pad>", "</s>", ">>deu<<", "<unk>", *names])}
        folders.write_json(folder / name, vocabulary)
    folders.write_json(folder / "config.json", {"eos_token_id": 1})


def _gguf(kind: str, folder: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    if kind == "llama":
        tokens = [
            "<unk>",
            "<s>",
            "</s>",
            *map("<0x{:02X}>".format, range(256)),
            "▁",
            "a",
            "b",
            "c",
            "ab",
            "▁ab",
            "abc",
        ]
        kinds = [2, 3, 3, *[6] * 256, *[1] * 7]
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * 259 + [-1.0, -2.0, -3.0, -4.0, -1.5, -1.0, -0.5])
        writer.add_token_types(kinds)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(True)
    else:
        letters = decoders.ALPHABET
        tokens = [*letters, "ab", "abc", "<end>", "<user>"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(kind)
        writer.add_token_list(tokens)
        writer.add_token_types([*[1] * 258, 3, 4])
        writer.add_token_merges(["a b", "ab c"])
        writer.add_eos_token_id(258)
        writer.add_bos_token_id(258)
        writer.add_add_bos_token(True)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class TokenizerFiles(ReaderTarget):
    """Read, cut texts, join tokens, write chats."""

    mutated = (".json", ".spm", ".gguf", ".jinja")

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return a folder for each kind."""
        kinds = ("words", "bytes", "speech", "template", "pieces", "unigram", "bpe")
        ggufs = ("llama", "llama-bpe", "qwen2", "smollm")
        return {
            **{kind: partial(_write, kind) for kind in kinds},
            "jinja": _jinja,
            "sentencepiece": _sentencepiece,
            **{f"gguf-{kind}": partial(_gguf, kind) for kind in ggufs},
        }

    def mutate(self, rng: Rng, name: str, data: bytes) -> bytes:
        """Change what the file says, or its bytes."""
        if name.endswith(".gguf") and rng.random() < 0.7:
            return mutate_gguf(rng, data)
        return super().mutate(rng, name, data)

    def load(self, folder: Path) -> Any:
        """Read with the reader that a model of that kind would use."""
        if (folder / "model.gguf").is_file():
            return [gguf_tokenizer(GgufFile(folder / "model.gguf").fields)]
        config = JsonFile(folder / "config.json")
        if (folder / "source.spm").is_file():
            return [marian_tokenizer(folder, config, _SIZE, _SIZE)]
        sentences = SentenceTokenizer(folder / "tokenizer.json", vocab_size=_SIZE, max_length=9)
        return [folder_tokenizer(folder, config), sentences]

    def use(self, loaded: Any) -> None:
        """Cut and join."""
        text, *sentences = loaded
        for reader in sentences:
            for ids in reader(list(_TEXTS)):
                if len(ids) > reader.max_length:
                    raise Finding(f"{len(ids)} tokens, at most {reader.max_length} are allowed")
                reader.pieces(ids.tolist())
        for line in _TEXTS:
            ids = text.encode(line)
            if not all(isinstance(number, int) and number >= 0 for number in ids):
                raise Finding("tokens that are no numbers")
            for joined in (text.decode(ids), *text.pieces(ids), *text.source_pieces(ids)):
                if not isinstance(joined, str):
                    raise Finding("tokens that join to no text")
            stream = text.stream()
            for number in ids[:20]:
                stream.push(number)
            stream.rest()
        text.vocabulary()
        with contextlib.suppress(ValueError):  # Marian has no template
            text.chat([{"role": "user", "content": "ab"}, {"role": "assistant", "content": "é"}])
