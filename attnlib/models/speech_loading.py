"""From a folder of Hugging Face or of CTranslate2 to a speech model."""

from __future__ import annotations

from pathlib import Path

from numpy.typing import DTypeLike

from attnlib.models.audio.speech_tokens import SpeechTokens
from attnlib.models.families.whisper import WhisperModel, read_config, read_ctranslate2_config
from attnlib.models.files.checkpoint import Checkpoint, open_safetensors
from attnlib.models.files.config import Fields, JsonFile
from attnlib.models.files.ctranslate2_file import CTranslate2File
from attnlib.models.speech_model import SpeechModel
from attnlib.models.text.text_tokenizer import folder_tokenizer

__all__ = ["is_ctranslate2_folder", "load_speech_model"]

# The tokens of the models for English alone; the others have one more, or two.
_ENGLISH_TOKENS = 51864


def is_ctranslate2_folder(folder: Path) -> bool:
    """Return whether a folder is in CTranslate2's layout."""
    return (folder / "model.bin").is_file() and not (folder / "model.safetensors").is_file()


def load_speech_model(folder: Path, *, dtype: DTypeLike = "float32") -> SpeechModel:
    """Load a Whisper model; parameters and errors are those of `attnlib.models.load`."""
    config = JsonFile(folder / "config.json")
    checkpoint: Checkpoint
    if is_ctranslate2_folder(folder):
        checkpoint = CTranslate2File(folder / "model.bin")
        network = WhisperModel(read_ctranslate2_config(checkpoint))
        rules: Fields = config
        names = "suppress_ids", "suppress_ids_begin"
    else:
        checkpoint = open_safetensors(folder)
        network = WhisperModel(read_config(config))
        # Folders of old have all in config.json.
        path = folder / "generation_config.json"
        rules = JsonFile(path) if path.is_file() else config
        names = "suppress_tokens", "begin_suppress_tokens"
    _check_front_end(folder, network)
    tokenizer = folder_tokenizer(folder, config)
    if tokenizer is None:
        raise FileNotFoundError(f"{folder / 'tokenizer.json'}: there is no such file")
    size = network.vocab_size
    multilingual = rules.boolean("is_multilingual", size != _ENGLISH_TOKENS)
    suppressed, suppressed_first = (_token_list(rules, name, size) for name in names)
    try:
        tokens = SpeechTokens.find(
            tokenizer.vocabulary(),
            size=size,
            multilingual=multilingual,
            suppressed=suppressed,
            suppressed_first=suppressed_first,
        )
    except ValueError as error:
        raise ValueError(f"{folder / 'tokenizer.json'}: {error}") from None
    # From 0 to the end of the window, both included.
    if tokens.no_timestamps + 1 + network.config.max_source_positions >= size:
        raise ValueError(
            f"{folder / 'tokenizer.json'}: <|notimestamps|> is {tokens.no_timestamps} of {size} tokens, "
            f"which leaves no room for {network.config.max_source_positions} times"
        )
    network.prepare(dtype)
    network.load(checkpoint)
    return SpeechModel(network, tokenizer, tokens)


def _token_list(file: Fields, name: str, size: int) -> list[int]:
    """Read a list of token numbers, which may be missing."""
    if name not in file:
        return []
    value = file.get(name)
    if not isinstance(value, list) or not all(
        isinstance(token, int) and not isinstance(token, bool) and 0 <= token < size for token in value
    ):
        raise file.error(name, f"must be a list of tokens from 0 to {size - 1}")
    return value


def _check_front_end(folder: Path, network: WhisperModel) -> None:
    """Raise unless ``preprocessor_config.json``, if there is one, asks for what `LogMel` does."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return
    file = JsonFile(path)
    wanted = {
        "feature_size": network.config.num_mel_bins,
        "sampling_rate": 16000,
        "hop_length": 160,
        "n_fft": 400,
    }
    for name, value in wanted.items():
        if (found := file.integer(name, 1, 1 << 30, default=value)) != value:
            raise file.error(name, f"is {found}, only {value} is supported for this model")
