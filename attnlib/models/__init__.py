"""Models from their checkpoints: `load` makes a sentence encoder, a language or a speech model of them.

It needs the extra ``models``: ``pip install "attnlib[models]"``.
"""

from attnlib.models.language_model import Generation, LanguageModel
from attnlib.models.loading import load, load_sentence_encoder
from attnlib.models.segments import Segment, Transcription
from attnlib.models.sentence_encoder import SentenceEncoder
from attnlib.models.speech_model import SpeechModel

__all__ = [
    "Generation",
    "LanguageModel",
    "Segment",
    "SentenceEncoder",
    "SpeechModel",
    "Transcription",
    "load",
    "load_sentence_encoder",
]
