"""Models from their checkpoints: sentence encoders, language models and encoder-decoders, by `load`.

It needs the extra ``models``: ``pip install "attnlib[models]"``. Only `load_translator`, whose model comes
with attnlib, does without.
"""

from attnlib.models.conversation import Conversation
from attnlib.models.language_model import LanguageModel
from attnlib.models.loading import load, load_sentence_encoder
from attnlib.models.sentence_encoder import SentenceEncoder
from attnlib.models.text_generator import Generation
from attnlib.models.text_to_text import TextToTextModel
from attnlib.models.translator import Alignment, Translator, load_translator

__all__ = [
    "Alignment",
    "Conversation",
    "Generation",
    "LanguageModel",
    "SentenceEncoder",
    "TextToTextModel",
    "Translator",
    "load",
    "load_sentence_encoder",
    "load_translator",
]
