"""Small random Whisper models: both layouts, windows, languages, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib as al
from attnlib import models
from attnlib.models.files.ctranslate2_file import CTranslate2File

from . import speech

SOUND = (np.random.default_rng(7).standard_normal(20000) * 0.2).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech.write_folder(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def model(folder: Path) -> models.SpeechModel:
    return _load(folder)


def _load(folder: Path, **options: Any) -> models.SpeechModel:
    model = models.load(folder, **options)
    assert isinstance(model, models.SpeechModel)
    return model


def _features(model: models.SpeechModel, count: int = 2) -> Any:
    return np.stack([model.features(SOUND[i * 6400 : (i + 1) * 6400]) for i in range(count)])


def test_both_layouts_are_the_same_model(model: models.SpeechModel, tmp_path: Path) -> None:
    other = _load(speech.write_ctranslate2_folder(tmp_path))
    assert other.network.config == model.network.config
    assert other.tokens == model.tokens
    ids = np.random.default_rng(0).integers(0, speech.VOCABULARY, (2, 9))
    features = _features(model)
    np.testing.assert_array_equal(other.network(features, ids), model.network(features, ids))


def test_step_by_step_as_at_once(model: models.SpeechModel) -> None:
    network = model.network
    ids = np.random.default_rng(0).integers(0, speech.VOCABULARY, (2, 9))
    features = _features(model)
    past = network.begin(network.encode(features), capacity=9)
    steps = [network.logits(network.hidden(ids[:, i : i + 1], past)) for i in range(9)]
    whole = network(features, ids)
    assert np.abs(np.concatenate(steps, axis=1) - whole).max() <= 1e-4 * np.abs(whole).max()


def test_bits_move_neither_with_threads_nor_with_the_batch(model: models.SpeechModel) -> None:
    ids = np.random.default_rng(0).integers(0, speech.VOCABULARY, (2, 9))
    features = _features(model)
    with al.num_threads(1):
        one = model.network(features, ids)
    with al.num_threads(3):
        np.testing.assert_array_equal(model.network(features, ids), one)
    np.testing.assert_array_equal(model.network(features[1:], ids[1:]), one[1:])


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_other_dtypes(dtype: str, folder: Path, model: models.SpeechModel) -> None:
    other = _load(folder, dtype=dtype)
    memory, found = model.network.encode(_features(model)), other.network.encode(_features(model))
    error = np.linalg.norm(found.astype(np.float32) - memory) / np.linalg.norm(memory)
    assert 0 < error < 0.05
    assert other.transcribe(SOUND, temperature=0).duration == 1.25


def test_windows_cover_the_sound(model: models.SpeechModel) -> None:
    """Whatever a random model writes, its segments follow one another within the sound."""
    for seed in range(4):
        sound = (np.random.default_rng(seed).standard_normal(30000) * 0.2).astype(np.float32)
        result = model.transcribe(sound, temperature=1.0, seed=seed)
        assert result.duration == 1.875
        assert result.segments
        assert result.text == "".join(segment.text for segment in result.segments)
        latest = 0.0
        for segment in result.segments:
            assert latest <= segment.start <= segment.end <= 1.875
            latest = segment.start
            assert segment.temperature == 1.0
        assert model.transcribe(sound, temperature=1.0, seed=seed) == result


def test_short_sound_is_one_segment_unless_times_are_wanted(model: models.SpeechModel) -> None:
    result = model.transcribe(SOUND[:5000], temperature=0)
    assert len(result.segments) <= 1
    assert all(token < speech.NO_TIMESTAMPS for segment in result.segments for token in segment.tokens)
    result = model.transcribe(SOUND[:5000], temperature=0, timestamps=True)
    assert all(segment.tokens[0] >= speech.FIRST for segment in result.segments)


def test_a_file_is_what_is_in_it(model: models.SpeechModel, tmp_path: Path) -> None:
    whole = np.rint(SOUND * 2**14).clip(-(2**15), 2**15 - 1).astype(np.int16)
    path = tmp_path / "a.wav"
    path.write_bytes(speech.wav(whole.tobytes()))
    wanted = model.transcribe(whole, temperature=0)
    assert model.transcribe(path, temperature=0) == wanted
    assert model.transcribe(str(path), temperature=0) == wanted
    assert model.transcribe(whole / np.float32(2**15), temperature=0) == wanted
    # Of the other byte order, and numbers of NumPy.
    assert model.transcribe(whole.astype(">i2"), temperature=0) == wanted
    assert model.transcribe((whole / np.float32(2**15)).astype(">f4"), temperature=np.float32(0)) == wanted
    slow = model.transcribe(whole, temperature=0, rate=8000)
    assert slow.duration == 2.5


def test_probabilities_are_those_among_the_tokens_that_the_rules_leave(model: models.SpeechModel) -> None:
    """OpenAI's implementation sums log_softmax of the logits that its filters have made."""
    (segment,) = model.transcribe(SOUND[:6400], temperature=0, language="en").segments
    start = model.tokens.prompt("en", "transcribe", False)
    most = model.network.context_length // 2
    written = segment.tokens + [speech.END] * (len(segment.tokens) < most)
    logits = model.network(_features(model, 1), np.array([[*start, *written]]))[0].astype(np.float64)
    total = 0.0
    for place, token in enumerate(written):
        row = logits[len(start) - 1 + place]
        row[[1, 2, *([3, speech.END] if place == 0 else [])]] = -np.inf
        total += row[token] - np.log(np.exp(row).sum())
    assert segment.logprob == pytest.approx(total / len(written), rel=1e-4)


def test_beams(model: models.SpeechModel) -> None:
    """What they find is at least as probable, for each token, as what is likeliest token by token."""
    plain = model.transcribe(SOUND[:6400], temperature=0, language="en")
    beams = model.transcribe(SOUND[:6400], temperature=0, language="en", num_beams=4)
    assert beams.segments[0].logprob >= plain.segments[0].logprob
    # Drawing has no beams.
    options: dict[str, Any] = {"temperature": 0.5, "language": "en"}
    wanted = model.transcribe(SOUND[:6400], **options)
    assert model.transcribe(SOUND[:6400], num_beams=4, **options) == wanted


def test_languages(model: models.SpeechModel) -> None:
    chances = model.detect_language(SOUND)
    assert set(chances) == {"de", "en", "fr"} == set(model.languages)
    assert abs(sum(chances.values()) - 1) < 1e-9
    likeliest = max(chances, key=lambda code: chances[code])
    found = model.transcribe(SOUND, temperature=0)
    assert found.language == likeliest
    assert found == model.transcribe(SOUND, temperature=0, language=likeliest)
    # The logits after the first token are those of a whole pass.
    logits = model.network(_features(model, 1), [[speech.START]])[0, 0]
    codes = {"de": 259, "en": 258, "fr": 260}
    scores = np.exp([float(logits[codes[code]]) for code in chances])
    np.testing.assert_allclose(list(chances.values()), scores / scores.sum(), rtol=1e-4)


def test_what_stood_before_counts(model: models.SpeechModel) -> None:
    plain = model.transcribe(SOUND[:6400], temperature=0)
    assert model.transcribe(SOUND[:6400], temperature=0, prompt="Ada Lovelace") != plain
    # More than half of the context: the last of it counts.
    long = model.transcribe(SOUND[:6400], temperature=0, prompt="x" * 500 + "ab")
    assert model.transcribe(SOUND[:6400], temperature=0, prompt="x" * 300 + "ab") == long


def test_english_alone(tmp_path: Path) -> None:
    english = _load(speech.write_folder(tmp_path, {"is_multilingual": False}))
    assert english.languages == ("en",)
    assert english.detect_language(SOUND) == {"en": 1.0}
    assert english.transcribe(SOUND, temperature=0).language == "en"
    for options in ({"language": "de"}, {"task": "translate"}):
        with pytest.raises(ValueError, match=next(iter(options.values()))):
            english.transcribe(SOUND, **options)


@pytest.mark.parametrize(
    ("audio", "kind", "problem"),
    [
        (np.zeros(0, np.float32), ValueError, "transcribe: audio holds no samples"),
        (np.array([0.0, np.nan]), ValueError, "transcribe: audio holds nan at sample 1"),
        (np.zeros((2, 100), np.float32), ValueError, r"transcribe: audio must have one axis"),
        (np.zeros(9, np.int64), TypeError, "transcribe: audio must be float32 or int16, got int64"),
        ("no.wav", FileNotFoundError, r"no\.wav"),
    ],
)
def test_bad_sound(audio: Any, kind: type[Exception], problem: str, model: models.SpeechModel) -> None:
    with pytest.raises(kind, match=problem):
        model.transcribe(audio)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"language": "klingon"}, "language 'klingon' is not known; known are de, en, fr"),
        ({"task": "sing"}, "task must be transcribe or translate with this model, got 'sing'"),
        ({"rate": 10}, "rate must be from 1000"),
        ({"temperature": ()}, "temperature must be a number or some"),
        ({"temperature": -1}, "temperature must be at least 0"),
        ({"num_beams": 0}, "num_beams must be at least 1, got 0"),
    ],
)
def test_bad_options(options: dict[str, Any], problem: str, model: models.SpeechModel) -> None:
    with pytest.raises(ValueError, match=problem):
        model.transcribe(SOUND, **options)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"temperature": "1"}, "temperature must be a number, got str"),
        ({"temperature": [0.0, None]}, "temperature must be a number, got NoneType"),
        ({"num_beams": 2.5}, "num_beams must be an integer, got float"),
        ({"seed": "1"}, "seed must be an integer, got str"),
    ],
)
def test_options_of_wrong_types(options: dict[str, Any], problem: str, model: models.SpeechModel) -> None:
    with pytest.raises(TypeError, match=f"^transcribe: {problem}$"):
        model.transcribe(SOUND, **options)


def test_bad_features(model: models.SpeechModel) -> None:
    with pytest.raises(ValueError, match=r"inputs has shape \(1, 80, 39\), expected \(B, 80, 40\)"):
        model.network.encode(np.zeros((1, 80, 39), np.float32))
    with pytest.raises(TypeError, match="int64"):
        model.network.encode(np.zeros((1, 80, 40), np.int64))
    with pytest.raises(ValueError, match="lengths must be None"):
        model.network.encode(np.zeros((1, 80, 40), np.float32), [20])


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"d_model": "wide"}, "d_model must be an integer"),
        ({"d_model": 1 << 40}, "d_model must be from"),
        ({"decoder_attention_heads": 3}, "decoder_attention_heads 3 does not divide d_model 32"),
        ({"num_mel_bins": 128}, r"conv1.weight is \(32, 80, 3\), the configuration wants \(32, 128, 3\)"),
        ({"encoder_layers": 3}, "model.encoder.layers.2.self_attn.q_proj.weight is missing"),
        (
            {"decoder_layers": 1},
            r"model\.decoder\.layers\.1\.\S+ is there, but the number of layers in the configuration is 1$",
        ),
        ({"activation_function": "relu"}, "activation_function"),
        ({"scale_embedding": True}, "scale_embedding"),
        ({"vocab_size": 270}, "leaves no room for 20 times"),
        ({"vocab_size": 287}, "<.notimestamps.> is 266 of 287 tokens, which leaves no room for 20 times"),
        ({"tie_word_embeddings": False}, "proj_out.weight is missing"),
    ],
)
def test_configurations_that_do_not_fit(config: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        models.load(speech.write_folder(tmp_path, **config))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("generation_config.json", {"suppress_tokens": [10**6]}, "suppress_tokens must be a list"),
        ("generation_config.json", {"begin_suppress_tokens": "all"}, "begin_suppress_tokens must be a list"),
        ("preprocessor_config.json", {"feature_size": 128}, "feature_size is 128"),
        ("preprocessor_config.json", {"hop_length": 80}, "hop_length is 80"),
        ("tokenizer.json", {}, "not a tokenizer"),
    ],
)
def test_other_files_that_do_not_fit(name: str, content: Any, problem: str, tmp_path: Path) -> None:
    speech.write_folder(tmp_path)
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=problem) as error:
        models.load(tmp_path)
    assert name in str(error.value)
    assert str(error.value).count(str(tmp_path)) == 1


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    speech.write_folder(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json"):
        models.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"decoder/num_heads": np.array(3, np.int16)}, "decoder/num_heads 3.0 does not divide"),
        ({"decoder/num_heads": np.array(0, np.int16)}, "decoder/num_heads 0.0 does not divide"),
        ({"decoder/num_heads": np.array(2.5, np.float32)}, "decoder/num_heads 2.5 does not divide"),
        ({"decoder/num_heads": np.array(np.nan, np.float32)}, "decoder/num_heads nan does not divide"),
        ({"encoder/num_heads": np.array(np.inf, np.float32)}, "encoder/num_heads inf does not divide"),
        ({"decoder/activation": np.array(0, np.int8)}, "decoder/activation is 0"),
        ({"decoder/embeddings/weight": np.zeros(5, np.float32)}, "decoder/embeddings/weight is"),
        ({"encoder/conv1/weight": None}, "encoder/conv1/weight is missing"),
        ({"decoder/layer_1/ffn/linear_1/bias": None}, "decoder/layer_1/ffn/linear_1/bias is missing"),
        ({"encoder/layer_0/ffn/linear_1/bias": np.zeros(3, np.float32)}, "encoder/layer_0/ffn/linear_1/bias"),
    ],
)
def test_files_of_ctranslate2_that_do_not_fit(change: dict[str, Any], problem: str, tmp_path: Path) -> None:
    speech.write_ctranslate2_folder(tmp_path)
    variables = {**speech.ctranslate2_variables(), **change}
    variables = {name: array for name, array in variables.items() if array is not None}
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    (tmp_path / "model.bin").write_bytes(speech.pack_variables(variables, aliases))
    with pytest.raises(ValueError, match=problem) as error:
        models.load(tmp_path)
    assert "model.bin" in str(error.value)


def test_other_models_of_ctranslate2_are_refused(tmp_path: Path) -> None:
    speech.write_ctranslate2_folder(tmp_path)
    (tmp_path / "model.bin").write_bytes(speech.pack_variables({}, {}, "TransformerSpec"))
    with pytest.raises(ValueError, match="TransformerSpec of CTranslate2 is not supported"):
        models.load(tmp_path)


def test_files_of_ctranslate2_in_eight_bits(model: models.SpeechModel, tmp_path: Path) -> None:
    """Weights quantised row by row come back near what they were."""
    speech.write_ctranslate2_folder(tmp_path)
    variables = {}
    for name, array in speech.ctranslate2_variables().items():
        if array.ndim < 2 or name.endswith("encodings"):
            variables[name] = array
            continue
        rows = array.reshape(len(array), -1)
        scale = (127 / np.abs(rows).max(axis=1)).astype(np.float32)
        variables[name] = np.rint(rows * scale[:, None]).astype(np.int8).reshape(array.shape)
        variables[f"{name}_scale"] = scale
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    (tmp_path / "model.bin").write_bytes(speech.pack_variables(variables, aliases))
    assert CTranslate2File(tmp_path / "model.bin").shapes["decoder/projection/weight"] == (288, 32)
    ids = np.random.default_rng(0).integers(0, speech.VOCABULARY, (2, 9))
    features = _features(model)
    wanted, found = model.network(features, ids), _load(tmp_path).network(features, ids)
    assert 0 < np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.05


def test_half_precision_files(model: models.SpeechModel, tmp_path: Path) -> None:
    speech.write_folder(tmp_path)
    halves = {name: array.astype(np.float16) for name, array in speech.tensors().items()}
    pytest.importorskip("safetensors.numpy").save_file(halves, tmp_path / "model.safetensors")
    found = _load(tmp_path).network.encode(_features(model))
    wanted = model.network.encode(_features(model))
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 2e-3
