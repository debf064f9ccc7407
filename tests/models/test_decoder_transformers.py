"""Language models against the transformers library, on random weights that it writes itself."""

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
    name, folder, config, ids = sys.argv[1:]
    torch.manual_seed(5)
    model_class = getattr(transformers, name)
    config = model_class.config_class(**json.loads(config))
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape)
    model.save_pretrained(folder, max_shard_size="60KB" if name == "Qwen2ForCausalLM" else "5GB")
    ids = torch.tensor(json.loads(ids))
    with torch.no_grad():
        np.save(folder + "/logits.npy", model(ids).logits.numpy())
    options = dict(max_new_tokens=24, do_sample=False, eos_token_id=7, pad_token_id=0)
    rows = []
    for row in ids[:, :40]:
        mask = torch.ones(1, 40, dtype=torch.long)
        greedy = model.generate(row[None], attention_mask=mask, **options)[0, 40:]
        penalty = model.generate(row[None], attention_mask=mask, repetition_penalty=1.3, **options)[0, 40:]
        beams = model.generate(row[None], attention_mask=mask, num_beams=4, length_penalty=0.7, **options)
        rows.append([greedy.tolist(), penalty.tolist(), beams[0, 40:].tolist()])
    with open(folder + "/tokens.json", "w") as file:
        json.dump(rows, file)
"""

SIZES: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "GPT2LMHeadModel",
            {
                "vocab_size": 97,
                "n_embd": 48,
                "n_layer": 3,
                "n_head": 6,
                "n_positions": 256,
                "initializer_range": 0.2,
            },
        ),
        ("LlamaForCausalLM", SIZES),
        ("LlamaForCausalLM", {**SIZES, "attention_bias": True, "head_dim": 16, "tie_word_embeddings": True}),
        ("LlamaForCausalLM", {**SIZES, "rope_parameters": LLAMA3}),
        (
            "LlamaForCausalLM",
            {**SIZES, "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
        ),
        ("MistralForCausalLM", {**SIZES, "sliding_window": 20}),
        ("Qwen2ForCausalLM", SIZES),
        (
            "Qwen2ForCausalLM",
            {**SIZES, "use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1},
        ),
        (
            "Qwen2ForCausalLM",
            {
                **SIZES,
                "use_sliding_window": True,
                "sliding_window": 20,
                "max_window_layers": 3,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
        ),
        ("Qwen3ForCausalLM", {**SIZES, "head_dim": 16}),
    ],
)
def test_a_family(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    ids = np.random.default_rng(4).integers(8, 97, (2, 90))
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        name,
        str(tmp_path),
        json.dumps(config),
        json.dumps(ids.tolist()),
    ]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    model = models.load(tmp_path)
    assert isinstance(model, models.LanguageModel)
    wanted = np.load(tmp_path / "logits.npy")
    assert np.abs(wanted).max() > 1
    assert np.abs(model(ids) - wanted).max() <= 1e-4
    rows = json.loads((tmp_path / "tokens.json").read_text())
    prompts = ids[:, :40].tolist()
    options: dict[str, Any] = {"max_new_tokens": 24, "stop_token_ids": [7]}
    greedy = model.generate(prompts, **options)
    penalised = model.generate(prompts, repetition_penalty=1.3, **options)
    beams = model.generate(prompts, num_beams=4, length_penalty=0.7, **options)
    found = [[result.tokens for result in row] for row in zip(greedy, penalised, beams, strict=True)]
    assert found == rows
