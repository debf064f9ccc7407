"""Small random T5 and Marian models in Hugging Face folders, written without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]

WORDS = [
    "<pad>",
    "</s>",
    "<unk>",
    *(f"{a}{b}" for a in ["ba", "be", "bi", "bo", "bu", "da", "de", "di", "do", "du"] for b in "klmnprst"),
]
VOCAB, WIDTH, INNER = len(WORDS), 32, 48

T5: dict[str, Any] = {
    "model_type": "t5",
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "d_kv": 12,
    "d_ff": INNER,
    "num_layers": 2,
    "num_heads": 3,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
MARIAN: dict[str, Any] = {
    "model_type": "marian",
    "vocab_size": VOCAB,
    "d_model": WIDTH,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": INNER,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": INNER,
    "max_position_embeddings": 96,
    "activation_function": "swish",
    "scale_embedding": True,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CONFIGS = {"t5": T5, "marian": MARIAN}


def t5_shapes() -> dict[str, tuple[int, ...]]:
    heads = 3 * 12
    shapes: dict[str, tuple[int, ...]] = {
        "shared.weight": (VOCAB, WIDTH),
        "lm_head.weight": (VOCAB, WIDTH),
    }
    for stack, attentions in (
        ("encoder", ["SelfAttention"]),
        ("decoder", ["SelfAttention", "EncDecAttention"]),
    ):
        shapes[f"{stack}.final_layer_norm.weight"] = (WIDTH,)
        shapes[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (8, 3)
        for block in range(2):
            name = f"{stack}.block.{block}.layer."
            for number, attention in enumerate(attentions):
                shapes[f"{name}{number}.layer_norm.weight"] = (WIDTH,)
                shapes |= {f"{name}{number}.{attention}.{kind}.weight": (heads, WIDTH) for kind in "qkv"}
                shapes[f"{name}{number}.{attention}.o.weight"] = (WIDTH, heads)
            name += str(len(attentions))
            shapes[f"{name}.layer_norm.weight"] = (WIDTH,)
            shapes |= {f"{name}.DenseReluDense.{kind}.weight": (INNER, WIDTH) for kind in ("wi_0", "wi_1")}
            shapes[f"{name}.DenseReluDense.wo.weight"] = (WIDTH, INNER)
    return shapes


def marian_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.shared.weight": (VOCAB, WIDTH),
        "final_logits_bias": (1, VOCAB),
    }
    for stack, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"])):
        for number in range(2):
            name = f"model.{stack}.layers.{number}."
            products = {f"{part}.{kind}_proj": (WIDTH, WIDTH) for part in attentions for kind in "qkv"}
            products |= {f"{part}.out_proj": (WIDTH, WIDTH) for part in attentions}
            products |= {"fc1": (INNER, WIDTH), "fc2": (WIDTH, INNER)}
            norms = [f"{part}_layer_norm" for part in (*attentions, "final")]
            shapes |= {f"{name}{product}.weight": shape for product, shape in products.items()}
            shapes |= {f"{name}{product}.bias": shape[:1] for product, shape in products.items()}
            shapes |= {f"{name}{norm}.{kind}": (WIDTH,) for norm in norms for kind in ("weight", "bias")}
    return shapes


def tensors(family: str, seed: int = 0) -> dict[str, Array]:
    """Draw the weights of a model of T5 or MARIAN, so that what it writes is not the same word again."""
    rng = np.random.default_rng(seed)
    shapes = {"t5": t5_shapes, "marian": marian_shapes}[family]()
    drawn = {}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape) * (0.2 if name != "final_logits_bias" else 1.0)
        if name.endswith("norm.weight"):
            array += 1
        if name == "shared.weight":
            array *= 5
        if name.endswith(".q.weight"):
            # In T5 the weights, not the scores, are divided by the root of a head's size.
            array *= 12**-0.5
        drawn[name] = array.astype(np.float32)
    return drawn


def tokenizer() -> Any:
    """One token for each word, and </s> at the end."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {word: i for i, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<pad>", "</s>", "<unk>"])
    end = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.post_processor = end
    # What training may leave must not be used.
    made.enable_truncation(4)
    made.enable_padding(length=9)
    return made


def write_folder(
    folder: Path, family: str, *, generation: dict[str, Any] | None = None, **config: Any
) -> Path:
    """Write a model with its tokenizer; `generation` becomes generation_config.json."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIGS[family], **config}))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    tokenizer().save(str(folder / "tokenizer.json"))
    pytest.importorskip("safetensors.numpy").save_file(tensors(family), folder / "model.safetensors")
    return folder
