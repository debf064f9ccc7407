"""Small random Llama models in Hugging Face folders and GGUF files, written without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

# Not every Python has wheels of these.
save_file = pytest.importorskip("safetensors.numpy").save_file
tokenizers = pytest.importorskip("tokenizers")
Tokenizer, decoders, models = tokenizers.Tokenizer, tokenizers.decoders, tokenizers.models
pre_tokenizers = tokenizers.pre_tokenizers

Array = NDArray[Any]

# The letters of byte-level BPE in the order of their tokens.
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 260,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128,
    "rope_theta": 1000.0,
    "tie_word_embeddings": True,
}


def tensors(seed: int = 0) -> dict[str, Array]:
    """Draw the weights of a model of CONFIG."""
    rng = np.random.default_rng(seed)
    width, inner, kv = 32, 64, 16
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (260, width),
        "model.norm.weight": (width,),
    }
    for i in range(2):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "input_layernorm.weight": (width,),
            layer + "post_attention_layernorm.weight": (width,),
            layer + "self_attn.q_proj.weight": (width, width),
            layer + "self_attn.k_proj.weight": (kv, width),
            layer + "self_attn.v_proj.weight": (kv, width),
            layer + "self_attn.o_proj.weight": (width, width),
            layer + "mlp.gate_proj.weight": (inner, width),
            layer + "mlp.up_proj.weight": (inner, width),
            layer + "mlp.down_proj.weight": (width, inner),
        }
    return {name: (rng.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def byte_tokenizer() -> Tokenizer:
    """One token for each byte, in the letters of byte-level BPE, and <end>."""
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(ALPHABET)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


def write_folder(folder: Path, *, shards: int = 1, **config: Any) -> Path:
    """Write the model as a folder, in one file or in shards."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "eos_token_id": 256, **config}))
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    weights = tensors()
    if shards == 1:
        save_file(weights, folder / "model.safetensors")
        return folder
    places = {name: f"model-{number % shards}.safetensors" for number, name in enumerate(weights)}
    for place in set(places.values()):
        save_file({name: weights[name] for name in weights if places[name] == place}, folder / place)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return folder


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, kind: str = "F32") -> Path:
    """Write the model as llama.cpp's converter does: pairs of rotated features side by side in q and k."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1000.0)
    vocabulary = sorted(byte_tokenizer().get_vocab().items(), key=lambda entry: entry[1])
    tokens = [token for token, _ in vocabulary] + ["Āā", "<b>", "<c>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and len(token) > 1 else 1 for token in tokens])
    # A merge of two control characters, which texts seldom hold: an empty list cannot be written.
    writer.add_token_merges(["Ā ā"])
    writer.add_eos_token_id(256)
    writer.add_chat_template("{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}")
    for name, weight in tensors().items():
        if name == "model.embed_tokens.weight":
            short = "token_embd.weight"
        elif name == "model.norm.weight":
            short = "output_norm.weight"
        else:
            _, _, number, rest = name.split(".", 3)
            short = f"blk.{number}.{GGUF_NAMES[rest.removesuffix('.weight')]}.weight"
        if "attn_q." in short or "attn_k." in short:
            heads = len(weight) // 8
            weight = weight.reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(weight.shape)
        quantised = gguf.GGMLQuantizationType[kind if weight.ndim == 2 else "F32"]
        writer.add_tensor(
            short, gguf.quants.quantize(np.ascontiguousarray(weight), quantised), raw_dtype=quantised
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
