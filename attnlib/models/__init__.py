"""Models from their checkpoints: sentence encoders, language models, encoder-decoders and speech, by `load`.

It needs the extra ``models``: ``pip install "attnlib[models]"``. Only `load_translator`, whose model comes
with attnlib, does without.
"""

from attnlib.models.audio.segments import Segment, Transcription
from attnlib.models.conversation import Conversation
from attnlib.models.language_model import LanguageModel
from attnlib.models.loading import load, load_sentence_encoder
from attnlib.models.sentence_encoder import SentenceEncoder
from attnlib.models.speech_model import SpeechModel
from attnlib.models.text_generator import Generation
from attnlib.models.text_to_text import TextToTextModel
from attnlib.models.translator import Alignment, Translator, load_translator

__all__ = [
    "Alignment",
    "Conversation",
    "Generation",
    "LanguageModel",
    "Segment",
    "SentenceEncoder",
    "SpeechModel",
    "TextToTextModel",
    "Transcription",
    "Translator",
    "load",
    "load_sentence_encoder",
    "load_translator",
]
