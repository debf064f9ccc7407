"""Whisper against the transformers library, on random weights that it writes itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import models
from attnlib.models.audio import LogMel
from attnlib.models.audio.speech_tokens import TranscriptRules
from attnlib.models.generation.decoding import LogitsCallback, Step, decode
from attnlib.models.generation.sampling import Sampling

from . import log_mel_oracle, speech

pytestmark = pytest.mark.real_model  # beside the other tests that want a peer's library; it fetches nothing

PROGRAM = """if True:
    import json, sys
    import numpy as np, torch, transformers
    folder, config, lists = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    torch.manual_seed(5)
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    sound = np.load(folder + "/sound.npy")
    for bands in (80, 128):
        extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
        whole = extractor(sound, sampling_rate=16000, return_tensors="np", padding=False).input_features
        np.save(folder + f"/features{bands}.npy", whole[0])
    features = torch.tensor(np.load(folder + "/inputs.npy"))
    ids = torch.tensor(lists["ids"])
    with torch.no_grad():
        result = model(input_features=features, decoder_input_ids=ids)
    np.save(folder + "/logits.npy", result.logits.numpy())
    np.save(folder + "/memory.npy", result.encoder_last_hidden_state.numpy())

    # Greedily, one row after the other, with the library's own rules in its own order.
    from transformers.generation import logits_process as rules
    settings = transformers.GenerationConfig(eos_token_id=lists["end"])
    settings.no_timestamps_token_id = lists["no_timestamps"]
    settings.max_initial_timestamp_index = 50
    def greedy(timestamps):
        rows = []
        for row in range(len(features)):
            sequence = lists["prompt"] + ([] if timestamps else [lists["no_timestamps"]])
            first = len(sequence)
            processors = [
                rules.SuppressTokensLogitsProcessor(lists["suppressed"]),
                rules.SuppressTokensAtBeginLogitsProcessor(lists["suppressed_first"], first),
            ]
            if timestamps:
                processors.append(rules.WhisperTimeStampLogitsProcessor(settings, begin_index=first))
            while len(sequence) < first + 40 and sequence[-1] != lists["end"]:
                ids = torch.tensor([sequence])
                with torch.no_grad():
                    scores = model(input_features=features[[row]], decoder_input_ids=ids).logits[:, -1]
                for processor in processors:
                    scores = processor(ids, scores)
                sequence.append(int(scores.argmax()))
            rows.append(sequence[first:])
        return rows
    with open(folder + "/tokens.json", "w") as file:
        json.dump([greedy(False), greedy(True)], file)
"""

RULES = {"suppress_tokens": [1, 2, 40], "begin_suppress_tokens": [3, speech.END]}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_mel_bins": 128, "d_model": 48, "encoder_layers": 3, "decoder_attention_heads": 6},
        {"tie_word_embeddings": False},
    ],
)
def test_whisper(config: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    rng = np.random.default_rng(8)
    sound = (rng.standard_normal(40000) * 10 ** rng.uniform(-3, -1, 40000)).astype(np.float32)
    np.save(tmp_path / "sound.npy", sound)
    config = {**speech.CONFIG, "pad_token_id": 0, "init_std": 0.3, **config}
    frames = 2 * speech.PLACES
    inputs = rng.standard_normal((3, config["num_mel_bins"], frames)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    ids = rng.integers(0, speech.VOCABULARY, (3, 50))
    prompt = [speech.START, 258, 262]
    lists = {
        "ids": ids.tolist(),
        "prompt": prompt,
        "end": speech.END,
        "no_timestamps": speech.NO_TIMESTAMPS,
        "suppressed": RULES["suppress_tokens"],
        "suppressed_first": RULES["begin_suppress_tokens"],
    }
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(config), json.dumps(lists)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    (tmp_path / "generation_config.json").write_text(json.dumps(RULES))
    speech.tokenizer().save(str(tmp_path / "tokenizer.json"))

    for bands in (80, 128):
        wanted = np.load(tmp_path / f"features{bands}.npy")
        # Its Fourier transform is in float32.
        eps = float(np.finfo(np.float32).eps)
        exact, bound = log_mel_oracle.features(sound.astype(np.float64), bands, None, fourier=eps)
        assert (np.abs(wanted - exact) <= bound).all()
        assert (np.abs(LogMel(bands)(sound) - wanted) <= bound).all()

    model = models.load(tmp_path)
    assert isinstance(model, models.SpeechModel)
    network = model.network
    assert np.abs(network.encode(inputs) - np.load(tmp_path / "memory.npy")).max() <= 1e-4
    wanted = np.load(tmp_path / "logits.npy")
    assert np.abs(wanted).max() > 1
    assert np.abs(network(inputs, ids) - wanted).max() <= 1e-4

    found = []
    for timestamps in (False, True):
        start = model.tokens.prompt("en", "transcribe", timestamps)
        rows: list[list[int]] = [[], [], []]

        def finished(step: Step, rows: list[list[int]] = rows) -> bool:
            rows[step.row].append(step.token)
            return step.token == speech.END

        rules: LogitsCallback = TranscriptRules(model.tokens, len(start), timestamps)
        past = network.begin(network.encode(inputs), capacity=60)
        for _ in decode(
            network,
            [start] * 3,
            past=past,
            max_new_tokens=40,
            sampling=Sampling(),
            logits_callback=rules,
            finished=finished,
        ):
            pass
        found.append(rows)
    assert found == json.loads((tmp_path / "tokens.json").read_text())
    assert any(len(row) > 10 for row in found[1])
