"""T5 and Marian against the transformers library, on random weights that it writes itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import models

pytestmark = pytest.mark.real_model  # beside the other tests that want a peer's library; it fetches nothing

PROGRAM = """if True:
    import json, sys
    import numpy as np, torch, transformers
    name, folder, config, generation, seed = sys.argv[1:]
    torch.manual_seed(int(seed))
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**json.loads(config))).eval()
    with torch.no_grad():
        # Signs at the end, lest the likeliest word be always the one that was read last.
        for parameter_name, parameter in model.named_parameters():
            if "embed_positions" not in parameter_name:
                parameter += 0.05 * torch.randn(parameter.shape)
            if "embed_tokens" in parameter_name or "model.shared" in parameter_name:
                parameter *= 6 / model.get_encoder().embed_scale
            if "decoder" in parameter_name and "final_layer_norm.weight" in parameter_name:
                parameter.normal_()
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(0, 0.3 / model.get_encoder().embed_scale)
    for field, value in json.loads(generation).items():
        setattr(model.generation_config, field, value)
    model.save_pretrained(folder)
    data = np.load(folder + "/inputs.npz")
    sources, lengths, targets = (torch.from_numpy(data[key]) for key in ("sources", "lengths", "targets"))
    mask = (torch.arange(sources.shape[1])[None] < lengths[:, None]).long()
    with torch.no_grad():
        logits = model(input_ids=sources, attention_mask=mask, decoder_input_ids=targets).logits
    np.save(folder + "/logits.npy", logits.numpy())
    rows = []
    for options in json.loads(sys.stdin.read()):
        found = []
        for source, length in zip(sources, lengths):
            row = source[None, :length]
            tokens = model.generate(row, attention_mask=torch.ones_like(row), do_sample=False, **options)[0]
            tokens = tokens[1:].tolist()
            # What follows the end is padding.
            ends = model.generation_config.eos_token_id
            found.append(tokens[: tokens.index(ends) + 1] if ends in tokens else tokens)
        rows.append(found)
    with open(folder + "/tokens.json", "w") as file:
        json.dump(rows, file)
"""

T5: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 48,
    "d_kv": 16,
    "d_ff": 80,
    "num_layers": 3,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
    "decoder_start_token_id": 0,
}
MARIAN: dict[str, Any] = {
    "vocab_size": 97,
    "d_model": 48,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 90,
    "pad_token_id": 82,
    "decoder_start_token_id": 82,
    "eos_token_id": 0,
    "forced_eos_token_id": 0,
    "init_std": 0.1,
}
OPUS = {"bad_words_ids": [[82]], "num_beams": 3, "max_length": 30, "renormalize_logits": True}
APART = {"share_encoder_decoder_embeddings": False, "decoder_vocab_size": 83}

OPTIONS: list[dict[str, Any]] = [
    {"num_beams": 1, "max_new_tokens": 24},
    {"num_beams": 1, "max_new_tokens": 24, "repetition_penalty": 1.3},
    {"num_beams": 4, "max_new_tokens": 24, "length_penalty": 0.7},
    {"num_beams": 2, "max_new_tokens": 9, "length_penalty": -1.0, "repetition_penalty": 1.1},
]


@pytest.mark.parametrize(
    ("name", "config", "generation", "seed"),
    [
        ("T5ForConditionalGeneration", T5, {}, 0),
        ("T5ForConditionalGeneration", T5, {"min_length": 6, "early_stopping": True, "num_beams": 2}, 1),
        (
            "T5ForConditionalGeneration",
            {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
            {"forced_bos_token_id": 11, "suppress_tokens": [5, 6], "begin_suppress_tokens": [7]},
            2,
        ),
        (
            "T5ForConditionalGeneration",
            {**T5, "feed_forward_proj": "gated-silu", "num_decoder_layers": 1},
            {"min_new_tokens": 4, "max_new_tokens": 12, "num_beams": 2},
            3,
        ),
        ("MarianMTModel", {**MARIAN, "activation_function": "swish", "scale_embedding": True}, OPUS, 8),
        ("MarianMTModel", {**MARIAN, "activation_function": "relu", **APART}, OPUS, 5),
        (
            "MarianMTModel",
            {**MARIAN, **APART, "activation_function": "gelu", "tie_word_embeddings": False},
            {"bad_words_ids": [[82], [0], [3]], "num_beams": 4, "early_stopping": True},
            6,
        ),
    ],
)
def test_a_family(
    name: str, config: dict[str, Any], generation: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    rng = np.random.default_rng(seed)
    sources, targets = rng.integers(2, 97, (4, 70)), rng.integers(2, 83, (4, 50))
    lengths = np.array([70, 3, 64, 17])
    np.savez(tmp_path / "inputs.npz", sources=sources, targets=targets, lengths=lengths)
    arguments = [name, tmp_path, json.dumps(config), json.dumps(generation), seed]
    # What the checkpoint itself says comes last.
    asked = [*OPTIONS, {} if "num_beams" in generation and "max_length" in generation else OPTIONS[0]]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        input=json.dumps(asked),
        text=True,
        timeout=300,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    model = models.load(tmp_path)
    assert isinstance(model, models.TextToTextModel)
    wanted = np.load(tmp_path / "logits.npy")
    assert np.abs(wanted).max() > 1
    assert np.abs(model(sources, targets, lengths) - wanted).max() <= 1e-4

    rows = json.loads((tmp_path / "tokens.json").read_text())
    prompts = [row[:length].tolist() for row, length in zip(sources, lengths, strict=True)]
    found = [[result.tokens for result in model.generate(prompts, **options)] for options in asked]
    assert found == rows
    # A model that says the same word again and again would prove little.
    assert np.mean([len({*row}) for row in rows[1]]) >= 5


TEXTS = ["translate: a  cat, at ten", " b </s> c<extra_id_0> ", "été", "", "x" * 30]


def test_texts(tmp_path: Path) -> None:
    """A whole T5, from text to text, with the tokenizer.json that transformers writes."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    pieces = [
        "<pad>",
        "</s>",
        "<unk>",
        "▁",
        *"abcdefghijklmnopqrstuvwxyz:,.",
        "▁a",
        "at",
        "▁cat",
        "ten",
        "▁t",
    ]
    vocabulary = [(piece, -float(rank)) for rank, piece in enumerate(pieces)]
    peer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=2)
    peer.save_pretrained(tmp_path)
    torch.manual_seed(2)
    network = transformers.T5ForConditionalGeneration(transformers.T5Config(**{**T5, "num_layers": 1})).eval()
    with torch.no_grad():
        network.decoder.final_layer_norm.weight.normal_()
    network.save_pretrained(tmp_path)
    model = models.load(tmp_path)
    assert isinstance(model, models.TextToTextModel)
    for text in TEXTS:
        ids = peer(text, return_tensors="pt").input_ids
        assert model.encode(text) == ids[0].tolist()
        tokens = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12)[0]
        result = model.generate(text, max_new_tokens=12)
        # Tokens of which the tokenizer knows nothing are not written.
        known = [token for token in tokens.tolist() if token < len(peer)]
        assert result.tokens == tokens[1:].tolist()
        assert result.text == peer.decode(known, skip_special_tokens=True)
