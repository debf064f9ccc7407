"""Models from their checkpoints: sentence encoders, language models and encoder-decoders, by `load`.

It needs the extra ``models``: ``pip install "attnlib[models]"``.
"""

from attnlib.models.conversation import Conversation
from attnlib.models.language_model import LanguageModel
from attnlib.models.loading import load, load_sentence_encoder
from attnlib.models.sentence_encoder import SentenceEncoder
from attnlib.models.text_generator import Generation
from attnlib.models.text_to_text import TextToTextModel

__all__ = [
    "Conversation",
    "Generation",
    "LanguageModel",
    "SentenceEncoder",
    "TextToTextModel",
    "load",
    "load_sentence_encoder",
]
