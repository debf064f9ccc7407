"""CTranslate2: of the workloads it has the encoder of a BERT model and Whisper, in float32 and int8.

Its operators cannot be called by themselves from Python. It has bfloat16 on CPUs with AMX alone.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import ctranslate2
import numpy as np

from attnlib import models
from attnlib.benchmark.engines.engine import Array, Call, Engine
from attnlib.benchmark.sounds import bits

__all__ = ["ENGINE"]

_COMPUTE_TYPES = {"float32": "float32", "bfloat16": "bfloat16", "int8": "int8_float32"}


class CTranslate2(Engine):
    """Models that its converter made of Hugging Face folders, in a folder of its own."""

    name: ClassVar[str] = "CTranslate2"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._folder = tempfile.TemporaryDirectory(prefix="attnlib-bench-")

    @property
    def version(self) -> str:
        return str(ctranslate2.__version__)

    def model(self, precision: str, folder: Path, ids: Array) -> list[Call]:
        """The last hidden states, of lists of tokens as it wants them."""
        compute_type = _COMPUTE_TYPES.get(precision)
        if compute_type not in ctranslate2.get_supported_compute_types("cpu"):
            return []
        encoder = ctranslate2.Encoder(
            _converted(folder, Path(self._folder.name)),
            device="cpu",
            compute_type=compute_type,
            intra_threads=self.threads,
            inter_threads=1,
        )
        tokens = ids.tolist()

        def vectors(output: ctranslate2.EncoderForwardOutput) -> Array:
            means = np.array(output.last_hidden_state).mean(axis=1)
            result: Array = means / np.linalg.norm(means, axis=-1, keepdims=True)
            return result

        return [Call(f"Encoder, {compute_type}", lambda: encoder.forward_batch(tokens), vectors)]

    def speech_encoder(self, precision: str, folder: Path, features: Array) -> list[Call]:
        """What the encoder makes of features."""
        model = self._whisper(precision, folder)
        view = ctranslate2.StorageView.from_array(features)
        return [] if model is None else [Call("Whisper.encode", lambda: model.encode(view, to_cpu=True))]

    def transcription(self, precision: str, folder: Path, sound: Array) -> list[Call]:
        """Greedily, with the features of attnlib, since it makes none itself."""
        model = self._whisper(precision, folder)
        if model is None:
            return []
        speaker = models.load(folder)
        assert isinstance(speaker, models.SpeechModel)
        start = speaker.tokens.prompt("en", "transcribe", False)

        def transcribe() -> Any:
            features = np.ascontiguousarray(speaker.features(sound)[None])
            view = ctranslate2.StorageView.from_array(features)
            return model.generate(view, [start], beam_size=1)[0].sequences_ids[0]

        return [Call("Whisper.generate, features of attnlib", transcribe, bits)]

    def _whisper(self, precision: str, folder: Path) -> Any:
        """Load a Whisper model, or return None if there is no such precision."""
        compute_type = _COMPUTE_TYPES.get(precision)
        if compute_type not in ctranslate2.get_supported_compute_types("cpu"):
            return None
        return ctranslate2.models.Whisper(
            str(folder),
            device="cpu",
            compute_type=compute_type,
            intra_threads=self.threads,
            inter_threads=1,
        )


@cache
def _converted(folder: Path, parent: Path) -> str:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    target = parent / folder.name
    ctranslate2.converters.TransformersConverter(str(folder)).convert(str(target))
    return str(target)


ENGINE = CTranslate2
