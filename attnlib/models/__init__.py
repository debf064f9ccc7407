"""Models from their checkpoints: `load` makes a sentence encoder or a language model of them.

It needs the extra ``models``: ``pip install "attnlib[models]"``.
"""

from attnlib.models.conversation import Conversation
from attnlib.models.language_model import Generation, LanguageModel
from attnlib.models.loading import load, load_sentence_encoder
from attnlib.models.sentence_encoder import SentenceEncoder

__all__ = [
    "Conversation",
    "Generation",
    "LanguageModel",
    "SentenceEncoder",
    "load",
    "load_sentence_encoder",
]
