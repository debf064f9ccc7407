"""Every family against the transformers library, on random weights that it writes itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from attnlib import models

from . import folders

pytestmark = pytest.mark.real_model  # beside the other tests that want a peer's library; it fetches nothing

PROGRAM = """if True:
    import json, sys
    import numpy as np, torch, transformers
    name, folder, texts = sys.argv[1:]
    torch.manual_seed(3)
    model_class = getattr(transformers, name)
    config = model_class.config_class(
        vocab_size=13, max_position_embeddings=150, initializer_range=0.3, pad_token_id=1,
        **({"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40} if "Distil" in name else
           {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}),
    )
    model = model_class(config).eval().double()
    model.float().save_pretrained(folder)
    model.double()
    encoder = getattr(model, model.base_model_prefix, model)
    with torch.no_grad():
        hidden = [encoder(torch.tensor([ids])).last_hidden_state[0] for ids in json.loads(texts)]
    np.save(folder + "/means.npy", [states.mean(0).numpy() for states in hidden])
"""


@pytest.mark.parametrize(
    "name",
    [
        "BertModel",
        "BertForMaskedLM",
        "RobertaModel",
        "XLMRobertaForMaskedLM",
        "CamembertModel",
        "DistilBertModel",
        "DistilBertForMaskedLM",
        "MPNetModel",
        "MPNetForMaskedLM",
    ],
)
def test_a_family(name: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    # Not the text with unknown words: their number is also that of padding, which moves RoBERTa's positions.
    texts = [text for text in folders.TEXTS if "unheard" not in text]
    texts.append("the cat sat on the mat . dogs bark " * 16)
    ids = json.dumps([folders.token_ids(text, 148) for text in texts])
    subprocess.run([sys.executable, "-c", PROGRAM, name, str(tmp_path), ids], check=True, timeout=300)
    folders.tokenizer().save(str(tmp_path / "tokenizer.json"))
    wanted = np.load(tmp_path / "means.npy")
    found = models.load(tmp_path).encode(texts)
    assert np.abs(found - wanted).max() <= 5e-6 * np.abs(wanted).max()
