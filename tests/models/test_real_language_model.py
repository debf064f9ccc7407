"""SmolLM2-135M-Instruct from its GGUF file, against transformers on the same dequantised weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attnlib import models
from attnlib.models.files.gguf_file import GgufFile

pytestmark = pytest.mark.real_model

QUESTIONS = [
    "What is the capital of France?",
    "Why is the sky blue?",
    "Write a short poem about the sea.",
    "How do I boil an egg?",
    "List three prime numbers above 20.",
    "Explain what a neural network is in one paragraph.",
    "Translate to French: I am a student.",
    "Who was Ada Lovelace?",
    "def fibonacci(n):",
    "Tell me a story about a dragon and a 12-year-old girl.",
]

# The weights in the order and names of Hugging Face, taken from the file by the gguf package alone.
PROGRAM = """if True:
    import json, sys
    import gguf, numpy as np, torch, transformers
    path, prompts, result = sys.argv[1:]
    names = {
        "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    }
    state = {}
    for tensor in gguf.GGUFReader(path).tensors:
        weight = torch.tensor(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
        parts = tensor.name.split(".")
        if parts[0] == "token_embd":
            name = "model.embed_tokens"
        elif parts[0] == "output_norm":
            name = "model.norm"
        else:
            name = "model.layers." + parts[1] + "." + names[parts[2]]
            if parts[2] in ("attn_q", "attn_k"):
                weight = weight.view(-1, 32, 2, 576).transpose(1, 2).reshape(-1, 576)
        state[name + ".weight"] = weight
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, intermediate_size=1536, rms_norm_eps=1e-5, max_position_embeddings=8192,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0}, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert missing == ["lm_head.weight"] and not unexpected
    model.tie_weights()
    with open(prompts) as file:
        prompts = [torch.tensor([ids]) for ids in json.load(file)]
    tokens = [
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False, pad_token_id=2
        )[0, ids.shape[1] :].tolist()
        for ids in prompts
    ]
    with open(result, "w") as file:
        json.dump(tokens, file)
"""


@pytest.fixture(scope="module")
def model(smollm: Path) -> models.LanguageModel:
    model = models.load(smollm)
    assert isinstance(model, models.LanguageModel)
    return model


@pytest.fixture(scope="module")
def prompts(model: models.LanguageModel) -> list[str]:
    assert model.tokenizer is not None
    return [model.tokenizer.chat([{"role": "user", "content": question}]) for question in QUESTIONS]


def test_greedy_tokens_are_those_of_transformers(
    model: models.LanguageModel, prompts: list[str], smollm: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    ids, result = tmp_path / "ids.json", tmp_path / "tokens.json"
    ids.write_text(json.dumps([model.encode(prompt) for prompt in prompts]))
    command = [sys.executable, "-c", PROGRAM, str(smollm), str(ids), str(result)]
    subprocess.run(command, check=True, timeout=600, capture_output=True)
    found = [answer.tokens for answer in model.generate(prompts, max_new_tokens=64)]
    assert found == json.loads(result.read_text())


def test_streaming(model: models.LanguageModel, prompts: list[str]) -> None:
    pieces = list(model.stream(prompts[1], max_new_tokens=32))
    assert len(pieces) > 20
    assert "".join(pieces) == model.generate(prompts[1], max_new_tokens=32).text


def test_step_by_step_equals_the_full_pass(model: models.LanguageModel, prompts: list[str]) -> None:
    ids = model.encode(prompts[0])
    wanted = model([ids])[0]
    cache = model.decoder.cache(1, len(ids))
    found = np.stack([model.decoder.hidden(np.array([[token]]), cache)[0, 0] for token in ids])
    logits = model.decoder.logits(found)
    np.testing.assert_array_equal(logits.argmax(axis=1), wanted.argmax(axis=1))
    assert np.abs(logits - wanted).max() <= 1e-3


def test_a_folder_gives_the_same_bits(model: models.LanguageModel, smollm: Path, tmp_path: Path) -> None:
    """The first two layers, written under Hugging Face's names."""
    file = GgufFile(smollm)
    names = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    weights = {"model.embed_tokens.weight": file.tensor("token_embd.weight")}
    weights["model.norm.weight"] = np.array(file.tensor("output_norm.weight"))
    for layer in range(2):
        for short, name in names.items():
            weights[f"model.layers.{layer}.{name}.weight"] = np.array(
                file.tensor(f"blk.{layer}.{short}.weight")
            )
        for short in "qk":
            weight = file.tensor(f"blk.{layer}.attn_{short}.weight")
            weight = weight.reshape(-1, 32, 2, 576).swapaxes(1, 2).reshape(weight.shape)
            weights[f"model.layers.{layer}.self_attn.{short}_proj.weight"] = np.ascontiguousarray(weight)
    pytest.importorskip("safetensors.numpy").save_file(weights, tmp_path / "model.safetensors")
    config = {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "num_hidden_layers": 2,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "rms_norm_eps": 9.999999747378752e-06,
        "max_position_embeddings": 8192,
        "rope_theta": 100000.0,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    small = models.load(tmp_path)
    assert isinstance(small, models.LanguageModel)
    ids = np.array([[1, 2, 3, 4, 5]])
    short = model.decoder
    whole, short.layers = short.layers, short.layers[:2]
    try:
        np.testing.assert_array_equal(small(ids), short(ids))
    finally:
        short.layers = whole
