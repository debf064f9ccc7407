"""Small models with random weights in Hugging Face folders, and what they should compute.

The oracle works in float64, one text at a time, straight from the tensors in the file; it imports nothing of
attnlib.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "a", "mat", "dogs", "bark", "."]
HIDDEN, HEADS, LAYERS, INNER, POSITIONS = 24, 3, 2, 40, 20

TEXTS = [
    "the cat sat on the mat .",
    "",
    "dogs bark",
    "the dogs sat on a cat on a mat on the cat . the cat bark . dogs sat . dogs sat . dogs sat .",
    "unheard of words",
    "a a a",
    "cat",
]


@dataclass
class Model:
    """A model folder and what is in it; change `config` or `tensors`, then `write`."""

    folder: Path
    family: str
    config: dict[str, Any]
    tensors: dict[str, Array]
    pooling: dict[str, Any] = field(default_factory=lambda: {"pooling_mode_mean_tokens": True})
    modules: list[str] = field(default_factory=lambda: ["Transformer", "Pooling", "Normalize"])
    max_length: int | None = None

    def write(self) -> Path:
        folder = self.folder
        folder.mkdir(exist_ok=True)
        write_json(folder / "config.json", self.config)
        save_file(self.tensors, folder / "model.safetensors")
        tokenizer().save(str(folder / "tokenizer.json"))
        if self.modules:
            entries = [
                {"type": f"sentence_transformers.models.{kind}", "path": f"{i}_{kind}" if i else "", "idx": i}
                for i, kind in enumerate(self.modules)
            ]
            write_json(folder / "modules.json", entries)
            (folder / "1_Pooling").mkdir(exist_ok=True)
            write_json(folder / "1_Pooling" / "config.json", self.pooling)
        if self.max_length is not None:
            write_json(folder / "sentence_bert_config.json", {"max_seq_length": self.max_length})
        return folder

    def hidden(self, text: str) -> Array:
        """Compute the last hidden states of a text, (tokens, HIDDEN), in float64."""
        first = 2 if self.family in ("roberta", "mpnet") else 0
        limit = min(self.max_length or POSITIONS, POSITIONS - first)
        ids = token_ids(text, limit)
        tensors = {name: array.astype(np.float64) for name, array in self.tensors.items() if array.ndim}
        tensors = {bert_name(name, self.family): array for name, array in tensors.items()}
        x = tensors["embeddings.word_embeddings.weight"][ids]
        x = x + tensors["embeddings.position_embeddings.weight"][first : first + len(ids)]
        if self.family in ("bert", "roberta"):
            x = x + tensors["embeddings.token_type_embeddings.weight"][0]

        def dense(x: Array, name: str) -> Array:
            return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

        def norm(x: Array, name: str) -> Array:
            eps = self.config.get("layer_norm_eps", 1e-12)
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
            return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

        x = norm(x, "embeddings.LayerNorm")
        for i in range(LAYERS):
            name = f"encoder.layer.{i}"
            query, key, value = (
                dense(x, f"{name}.attention.self.{part}").reshape(len(ids), HEADS, -1).swapaxes(0, 1)
                for part in ("query", "key", "value")
            )
            scores = query @ key.swapaxes(1, 2) / math.sqrt(HIDDEN // HEADS)
            if self.family == "mpnet":
                table = tensors["encoder.relative_attention_bias.weight"]
                for i in range(len(ids)):
                    for j in range(len(ids)):
                        scores[:, i, j] += table[bucket(j - i)]
            scores = np.exp(scores)
            context = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(x.shape)
            x = norm(
                x + dense(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm"
            )
            inner = dense(x, f"{name}.intermediate.dense")
            inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
            x = norm(x + dense(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return x


def save_file(tensors: dict[str, Array], path: Path) -> None:
    pytest.importorskip("safetensors.numpy").save_file(tensors, path)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    # As in real folders, where what is left here from training must not be used.
    made.enable_truncation(4)
    made.enable_padding(length=4)
    return made


def token_ids(text: str, limit: int) -> list[int]:
    words = [WORDS.index(word) if word in WORDS else 1 for word in text.split()]
    return [2, *words[: limit - 2], 3]


def bucket(relative: int) -> int:
    """Compute the bucket of a relative position as Raffel et al., 2020, define it: 32 in all, up to 128."""
    distance = abs(relative)
    if distance >= 8:
        distance = min(15, 8 + int(math.log(distance / 8) / math.log(128 / 8) * 8 + 1e-9))
    return distance + (16 if relative > 0 else 0)


def bert_name(name: str, family: str) -> str:
    """Return what BERT calls a tensor of another family."""
    if family == "mpnet":
        for theirs, ours in (
            ("q", "self.query"),
            ("k", "self.key"),
            ("v", "self.value"),
            ("o", "output.dense"),
        ):
            name = name.replace(f"attention.attn.{theirs}.", f"attention.{ours}.")
        return name.replace("attention.LayerNorm", "attention.output.LayerNorm")
    if family != "distilbert":
        return name
    for theirs, ours in (
        ("transformer.layer", "encoder.layer"),
        ("attention.q_lin", "attention.self.query"),
        ("attention.k_lin", "attention.self.key"),
        ("attention.v_lin", "attention.self.value"),
        ("attention.out_lin", "attention.output.dense"),
        ("sa_layer_norm", "attention.output.LayerNorm"),
        ("ffn.lin1", "intermediate.dense"),
        ("ffn.lin2", "output.dense"),
        ("output_layer_norm", "output.LayerNorm"),
    ):
        name = name.replace(theirs, ours)
    return name


def make(folder: Path, family: str = "bert", seed: int = 0) -> Model:
    """Make a model of a family with random weights, not yet written."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    if family in ("bert", "roberta"):
        shapes["embeddings.token_type_embeddings.weight"] = (2, HIDDEN)
    for i in range(LAYERS):
        if family == "distilbert":
            layer = f"transformer.layer.{i}"
            square = [f"attention.{part}" for part in ("q_lin", "k_lin", "v_lin", "out_lin")]
            norms, inner, outer = ["sa_layer_norm", "output_layer_norm"], "ffn.lin1", "ffn.lin2"
        elif family == "mpnet":
            layer = f"encoder.layer.{i}"
            square = [f"attention.attn.{part}" for part in "qkvo"]
            norms, inner, outer = (
                ["attention.LayerNorm", "output.LayerNorm"],
                "intermediate.dense",
                "output.dense",
            )
        else:
            layer = f"encoder.layer.{i}"
            square = [f"attention.self.{part}" for part in ("query", "key", "value")]
            square.append("attention.output.dense")
            norms = ["attention.output.LayerNorm", "output.LayerNorm"]
            inner, outer = "intermediate.dense", "output.dense"
        for name in square:
            shapes[f"{layer}.{name}.weight"] = (HIDDEN, HIDDEN)
        shapes[f"{layer}.{inner}.weight"] = (INNER, HIDDEN)
        shapes[f"{layer}.{inner}.bias"] = (INNER,)
        shapes[f"{layer}.{outer}.weight"] = (HIDDEN, INNER)
        for name in norms:
            shapes[f"{layer}.{name}.weight"] = (HIDDEN,)
        for name in (*square, *norms, outer):
            shapes[f"{layer}.{name}.bias"] = (HIDDEN,)
    if family == "mpnet":
        shapes["encoder.relative_attention_bias.weight"] = (32, HEADS)
    tensors: dict[str, Array] = {
        name: (rng.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()
    }
    if family != "distilbert":
        # Real files have these beside the encoder.
        tensors["embeddings.position_ids"] = np.arange(POSITIONS)[None]
        tensors["pooler.dense.weight"] = np.zeros((HIDDEN, HIDDEN), np.float32)
    sizes = (HIDDEN, LAYERS, HEADS, INNER)
    fields = (
        ("dim", "n_layers", "n_heads", "hidden_dim")
        if family == "distilbert"
        else ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    )
    config: dict[str, Any] = {
        "model_type": family,
        "vocab_size": len(WORDS),
        "max_position_embeddings": POSITIONS,
        **dict(zip(fields, sizes, strict=True)),
    }
    if family == "distilbert":
        config["activation"] = "gelu"
    else:
        config.update(hidden_act="gelu", layer_norm_eps=1e-5)
    if family in ("bert", "roberta"):
        config["type_vocab_size"] = 2
    if family == "roberta":
        config["pad_token_id"] = 1
    return Model(folder, family, config, tensors)


def bfloat16(array: Array) -> Array:
    return array.astype(ml_dtypes.bfloat16)
