"""The JSON files of a folder, of every family."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from models import decoders, encoder_decoders, folders, speech
from safetensors.numpy import save_file

import attnlib.models

from .model_use import use_model
from .reader import ReaderTarget

__all__ = ["ConfigFiles", "write_gpt2"]


def _encoder(family: str, folder: Path) -> None:
    model = folders.make(folder, family)
    model.max_length = 16
    model.write()
    fields = {"model_max_length": 512, "do_lower_case": True}
    folders.write_json(folder / "tokenizer_config.json", fields)
    prompts = {"default_prompt_name": "query", "prompts": {"query": "the "}}
    folders.write_json(folder / "config_sentence_transformers.json", prompts)


def _dense(folder: Path) -> None:
    """Write an encoder with every kind of module behind it."""
    model = folders.make(folder)
    model.modules = ["Transformer", "Pooling", "Dense", "Normalize"]
    model.pooling = {"pooling_mode": ["mean", "cls"], "word_embedding_dimension": 24}
    model.write()
    (folder / "2_Dense").mkdir()
    fields = {
        "in_features": 48,
        "out_features": 5,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    folders.write_json(folder / "2_Dense" / "config.json", fields)
    weights = {"linear.weight": np.ones((5, 48), np.float32), "linear.bias": np.zeros(5, np.float32)}
    save_file(weights, folder / "2_Dense" / "model.safetensors")


def _decoder(kind: str, folder: Path) -> None:
    decoders.write_folder(folder, model_type=kind)
    if kind == "llama":
        config = json.loads((folder / "config.json").read_text())
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
        config["head_dim"] = 8
        folders.write_json(folder / "config.json", config)
    if kind == "mistral":
        config = json.loads((folder / "config.json").read_text())
        config.update(sliding_window=8, rope_scaling={"type": "linear", "factor": 2.0})
        folders.write_json(folder / "config.json", config)
    weights, rng = decoders.tensors(), np.random.default_rng(1)
    for i in range(2):
        attention = f"model.layers.{i}.self_attn."
        if kind == "qwen2":
            sizes = {"q_proj.bias": 32, "k_proj.bias": 16, "v_proj.bias": 16}
        else:
            sizes = {"q_norm.weight": 8, "k_norm.weight": 8} if kind == "qwen3" else {}
        for name, size in sizes.items():
            weights[attention + name] = rng.standard_normal(size).astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    folders.write_json(folder / "generation_config.json", {"eos_token_id": [256, 3]})


def write_gpt2(folder: Path) -> None:
    """Write a GPT-2."""
    folder.mkdir(exist_ok=True)
    width, rng = 16, np.random.default_rng(2)
    config = {"model_type": "gpt2", "vocab_size": 260, "n_embd": width, "n_layer": 2, "n_head": 2}
    config |= {
        "n_positions": 32,
        "n_inner": 24,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
    }
    folders.write_json(folder / "config.json", {**config, "eos_token_id": 256})
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (260, width), "wpe.weight": (32, width)}
    norms = ["ln_f"]
    for i in range(2):
        norms += [f"h.{i}.ln_1", f"h.{i}.ln_2"]
        products = {"attn.c_attn": (width, 48), "attn.c_proj": (width, width)}
        products |= {"mlp.c_fc": (width, 24), "mlp.c_proj": (24, width)}
        for name, shape in products.items():
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[1:]}
    shapes |= {f"{norm}.{kind}": (width,) for norm in norms for kind in ("weight", "bias")}
    tensors = {name: (rng.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    decoders.byte_tokenizer().save(str(folder / "tokenizer.json"))


def _encoder_decoder(family: str, folder: Path) -> None:
    generation = {
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
        "bad_words_ids": [[2], [5]],
        "num_beams": 2,
        "max_length": 12,
        "length_penalty": 0.8,
        "forced_eos_token_id": 1,
        "suppress_tokens": [7],
    }
    encoder_decoders.write_folder(folder, family, generation=generation)


def _whisper(folder: Path) -> None:
    generation = {"is_multilingual": True, "no_timestamps_token_id": speech.NO_TIMESTAMPS}
    speech.write_folder(folder, generation)
    fields = {"feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400}
    folders.write_json(folder / "preprocessor_config.json", fields)


class ConfigFiles(ReaderTarget):
    """All JSON files but those of tokenizers, with the loader and a moment's use."""

    # Names in full or their ends: none of them ends in tokenizer.json.
    mutated = (
        "config.json",
        "modules.json",
        "index.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    )

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return a folder for each family."""
        encoders = ("bert", "roberta", "distilbert", "mpnet")
        return {
            **{family: partial(_encoder, family) for family in encoders},
            "dense": _dense,
            **{kind: partial(_decoder, kind) for kind in ("llama", "mistral", "qwen2", "qwen3")},
            "gpt2": write_gpt2,
            **{family: partial(_encoder_decoder, family) for family in ("t5", "marian")},
            "whisper": _whisper,
            "ctranslate2": speech.write_ctranslate2_folder,
            "shards": lambda folder: decoders.write_folder(folder, shards=2),
        }

    def load(self, folder: Path) -> Any:
        """Load the model."""
        return attnlib.models.load(folder)

    def use(self, loaded: Any) -> None:
        """Run the model."""
        use_model(loaded)
