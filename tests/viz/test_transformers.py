"""Attention weights against the transformers library, on random models that it writes itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import folders

from attnlib import models, viz

pytestmark = pytest.mark.real_model  # beside the other tests that want a peer's library; it fetches nothing

PROGRAM = """if True:
    import json, sys
    import numpy as np, torch, transformers
    name, folder, config, ids = sys.argv[1:]
    torch.manual_seed(3)
    model_class = getattr(transformers, name)
    config = model_class.config_class(**json.loads(config), attn_implementation="eager")
    model = model_class(config).eval()
    model.save_pretrained(folder)
    with torch.no_grad():
        ids = torch.tensor([json.loads(ids)])
        if not config.is_encoder_decoder:
            found = model.double()(ids, output_attentions=True)
            kinds = {"weights": found.attentions}
        else:
            # Its cache has no room for a decoder with more layers than the encoder.
            target = model.generate(ids, max_new_tokens=9, do_sample=False, use_cache=False)
            found = model.double()(ids, decoder_input_ids=target, output_attentions=True)
            names = ("encoder_attentions", "decoder_attentions", "cross_attentions")
            kinds = {name: getattr(found, name) for name in names} | {"target": target}
    np.savez(folder + "/weights.npz", **{
        name: np.array([layer[0].numpy() for layer in value]) if name != "target" else value.numpy()
        for name, value in kinds.items()
    })
"""

COMMON: dict[str, Any] = {"vocab_size": 13, "max_position_embeddings": 60, "initializer_range": 0.4}
ENCODER = COMMON | {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "pad_token_id": 1,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("BertModel", ENCODER),
        ("RobertaModel", ENCODER),
        ("MPNetModel", ENCODER),
        (
            "DistilBertModel",
            COMMON | {"dim": 24, "n_layers": 3, "n_heads": 3, "hidden_dim": 40, "pad_token_id": 1},
        ),
        (
            "GPT2LMHeadModel",
            {
                "vocab_size": 13,
                "n_embd": 24,
                "n_layer": 3,
                "n_head": 3,
                "n_positions": 60,
                "initializer_range": 0.4,
            },
        ),
        ("LlamaForCausalLM", ENCODER | {"num_attention_heads": 6, "num_key_value_heads": 2}),
        ("MistralForCausalLM", ENCODER | {"num_key_value_heads": 1, "sliding_window": 4}),
        ("Qwen3ForCausalLM", ENCODER | {"num_key_value_heads": 3, "head_dim": 8}),
    ],
)
def test_a_family(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    text = "the cat sat on a mat . dogs bark . the dogs sat on the cat ."
    ids = folders.token_ids(text, 58)
    command = [sys.executable, "-c", PROGRAM, name, str(tmp_path), json.dumps(config), json.dumps(ids)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    folders.tokenizer().save(str(tmp_path / "tokenizer.json"))
    model = models.load(tmp_path)
    maps = viz.attention_weights(model, text if isinstance(model, models.SentenceEncoder) else ids)
    assert maps.queries == ("[CLS]", *text.split(), "[SEP]")
    wanted = np.load(tmp_path / "weights.npz")["weights"]
    # Sharp and flat ones: not all near 1 / S.
    assert wanted.max() > 0.5
    assert maps.weights.shape == wanted.shape
    assert np.abs(maps.weights - wanted).max() <= 2e-5


def test_an_encoder_decoder(tmp_path: Path) -> None:
    """T5, which adds positions as a bias and does not scale; and its target, which it writes itself."""
    pytest.importorskip("transformers")
    text = "the cat sat on a mat . dogs bark ."
    ids = folders.token_ids(text, 58)
    config = {
        "vocab_size": 13,
        "d_model": 24,
        "d_kv": 6,
        "d_ff": 40,
        "num_layers": 2,
        "num_decoder_layers": 3,
        "num_heads": 4,
        "initializer_factor": 4.0,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "T5ForConditionalGeneration",
        str(tmp_path),
        json.dumps(config),
        json.dumps(ids),
    ]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    folders.tokenizer().save(str(tmp_path / "tokenizer.json"))
    model = models.load(tmp_path)
    assert isinstance(model, models.TextToTextModel)
    wanted = np.load(tmp_path / "weights.npz")
    target = wanted["target"][0].tolist()
    found = viz.attention_weights(model, text, target=target[1:])
    names = ("encoder_attentions", "decoder_attentions", "cross_attentions")
    for maps, name in zip(found, names, strict=True):
        assert maps.weights.shape == wanted[name].shape
        assert wanted[name].max() > 0.5
        assert np.abs(maps.weights - wanted[name]).max() <= 5e-5, name
    encoder, _, cross = found
    assert encoder.queries == cross.keys == ("[CLS]", *text.split(), "[SEP]")
    assert cross.queries == tuple(folders.WORDS[number] for number in target)
    written = viz.attention_weights(model, text, layers=[1])[2]
    count = min(len(written.queries), len(target))
    assert written.queries[:count] == cross.queries[:count]
