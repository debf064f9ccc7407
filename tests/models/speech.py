"""Small random Whisper models in the layouts of Hugging Face and CTranslate2, and sound files.

Nothing here imports attnlib.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[Any]

PLACES = 20
SPECIAL = [
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|de|>",
    "<|fr|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
]
END, START = 256, 257
NO_TIMESTAMPS = 256 + len(SPECIAL) - 1
FIRST = NO_TIMESTAMPS + 1
VOCABULARY = FIRST + PLACES + 1

CONFIG: dict[str, Any] = {
    "model_type": "whisper",
    "vocab_size": VOCABULARY,
    "num_mel_bins": 80,
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
    "max_source_positions": PLACES,
    "max_target_positions": 64,
    "eos_token_id": END,
}


def tensors(seed: int = 0) -> dict[str, Array]:
    """Draw the weights of a model of CONFIG, under the names of Hugging Face."""
    rng = np.random.default_rng(seed)
    width = CONFIG["d_model"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.encoder.conv1.weight": (width, 80, 3),
        "model.encoder.conv1.bias": (width,),
        "model.encoder.conv2.weight": (width, width, 3),
        "model.encoder.conv2.bias": (width,),
        "model.encoder.embed_positions.weight": (PLACES, width),
        "model.decoder.embed_positions.weight": (CONFIG["max_target_positions"], width),
        "model.decoder.embed_tokens.weight": (VOCABULARY, width),
    }
    for side in ("encoder", "decoder"):
        inner = CONFIG[f"{side}_ffn_dim"]
        norms = [f"model.{side}.layer_norm"]
        for i in range(2):
            layer = f"model.{side}.layers.{i}."
            norms += [layer + "self_attn_layer_norm", layer + "final_layer_norm"]
            attentions = ["self_attn"]
            if side == "decoder":
                norms.append(layer + "encoder_attn_layer_norm")
                attentions.append("encoder_attn")
            for attention in attentions:
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    shapes[f"{layer}{attention}.{part}.weight"] = (width, width)
                    if part != "k_proj":
                        shapes[f"{layer}{attention}.{part}.bias"] = (width,)
            shapes |= {
                layer + "fc1.weight": (inner, width),
                layer + "fc1.bias": (inner,),
                layer + "fc2.weight": (width, inner),
                layer + "fc2.bias": (width,),
            }
        for norm in norms:
            shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return {name: (rng.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def tokenizer() -> Any:
    """One token for each byte, and the special ones."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(letters)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return made


def write_folder(folder: Path, generation: Mapping[str, Any] | None = None, **config: Any) -> Path:
    """Write the model as a Hugging Face folder."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    rules = {"suppress_tokens": [1, 2], "begin_suppress_tokens": [3, END], **(generation or {})}
    (folder / "generation_config.json").write_text(json.dumps(rules))
    tokenizer().save(str(folder / "tokenizer.json"))
    pytest.importorskip("safetensors.numpy").save_file(tensors(), folder / "model.safetensors")
    return folder


def ctranslate2_variables() -> dict[str, Array]:
    """Name and stack the same weights as CTranslate2's converter does."""
    weights = tensors()
    found: dict[str, Array] = {
        "decoder/embeddings/weight": weights["model.decoder.embed_tokens.weight"],
        "decoder/activation": np.array(3, np.int8),
        "decoder/pre_norm": np.array(1, np.int8),
        "decoder/num_heads": np.array(CONFIG["decoder_attention_heads"], np.int16),
        "encoder/num_heads": np.array(CONFIG["encoder_attention_heads"], np.int16),
    }
    for name in ("conv1", "conv2"):
        for kind in ("weight", "bias"):
            found[f"encoder/{name}/{kind}"] = weights[f"model.encoder.{name}.{kind}"]

    def stack(name: str, source: str, parts: str) -> None:
        zeros = np.zeros(CONFIG["d_model"], np.float32)
        for kind in ("weight", "bias"):
            rows = [weights.get(f"{source}.{part}_proj.{kind}", zeros) for part in parts]
            found[f"{name}/{kind}"] = np.concatenate(rows)

    def norm(name: str, source: str) -> None:
        found[f"{name}/gamma"] = weights[f"{source}.weight"]
        found[f"{name}/beta"] = weights[f"{source}.bias"]

    for side in ("encoder", "decoder"):
        found[f"{side}/position_encodings/encodings"] = weights[f"model.{side}.embed_positions.weight"]
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        for i in range(2):
            layer, source = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
            stack(f"{layer}/self_attention/linear_0", f"{source}.self_attn", "qkv")
            norm(f"{layer}/self_attention/layer_norm", f"{source}.self_attn_layer_norm")
            norm(f"{layer}/ffn/layer_norm", f"{source}.final_layer_norm")
            singles = {"self_attention/linear_1": "self_attn.out_proj"}
            singles |= {"ffn/linear_0": "fc1", "ffn/linear_1": "fc2"}
            if side == "decoder":
                stack(f"{layer}/attention/linear_0", f"{source}.encoder_attn", "q")
                stack(f"{layer}/attention/linear_1", f"{source}.encoder_attn", "kv")
                norm(f"{layer}/attention/layer_norm", f"{source}.encoder_attn_layer_norm")
                singles["attention/linear_2"] = "encoder_attn.out_proj"
            for name, part in singles.items():
                for kind in ("weight", "bias"):
                    found[f"{layer}/{name}/{kind}"] = weights[f"{source}.{part}.{kind}"]
    return found


DTYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")


def pack_variables(
    variables: Mapping[str, Array], aliases: Mapping[str, str], spec: str = "WhisperSpec"
) -> bytes:
    """Lay out a ``model.bin``."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    parts = [struct.pack("<I", 6), text(spec), struct.pack("<II", 3, len(variables))]
    for name, array in variables.items():
        shape = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        size = struct.pack("<BI", DTYPES.index(array.dtype.name), array.nbytes)
        parts += [text(name), shape, size, array.tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [text(alias) + text(name) for alias, name in aliases.items()]
    return b"".join(parts)


def write_ctranslate2_folder(folder: Path, **config: Any) -> Path:
    """Write the model in CTranslate2's layout."""
    folder.mkdir(exist_ok=True)
    rules = {"suppress_ids": [1, 2], "suppress_ids_begin": [3, END], **config}
    (folder / "config.json").write_text(json.dumps(rules))
    tokenizer().save(str(folder / "tokenizer.json"))
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    (folder / "model.bin").write_bytes(pack_variables(ctranslate2_variables(), aliases))
    return folder


def write_noise(path: Path) -> None:
    """Write a second of noise."""
    noise = np.random.default_rng(5).integers(-3000, 3000, 16000)
    path.write_bytes(wav(noise.astype("<i2").tobytes()))


def wav(
    data: bytes,
    *,
    kind: int = 1,
    channels: int = 1,
    rate: int = 16000,
    bits: int = 16,
    extensible: bool = False,
) -> bytes:
    """Lay out a WAV file."""
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)
    if extensible:
        tail = bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<H", 0xFFFE) + form[2:] + struct.pack("<HHIH", 22, bits, 0, kind) + tail
    chunks = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in ((b"fmt ", form), (b"LIST", b"odd"), (b"data", data))
    )
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
