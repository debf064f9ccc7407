"""Models from their checkpoints: `load` makes a sentence encoder of a Hugging Face folder.

It needs the extra ``models``: ``pip install "attnlib[models]"``.
"""

from attnlib.models.loading import load
from attnlib.models.sentence_encoder import SentenceEncoder

__all__ = ["SentenceEncoder", "load"]
