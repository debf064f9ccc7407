"""French to English by a small Transformer, that of "Attention is all you need" (Vaswani et al., 2017).

The weights come with attnlib. They were trained by ``tools/train_translator.py`` on sentences that a grammar
makes up, so what is translated well are sentences of its words and patterns.

Letters: B batch, S target tokens, Sm source tokens, E d_model, H heads.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib import nn
from attnlib.models.families.encoder_decoder import EncoderDecoder
from attnlib.models.files.checkpoint import Checkpoint, Source, fill
from attnlib.models.files.config import Fields
from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.models.generation.settings import GenerationSettings
from attnlib.models.text.word_tokenizer import WordTokenizer
from attnlib.models.text_to_text import TextToTextModel

__all__ = [
    "Alignment",
    "Translator",
    "TranslatorConfig",
    "TranslatorModel",
    "load_translator",
    "read_translator",
]

_FILE = Path(__file__).parents[1] / "data" / "translator.safetensors"

_TABLE = "target_embedding.weight"


@dataclass(frozen=True)
class TranslatorConfig:
    """The sizes, named as in `nn.Transformer`; `max_length` is the most tokens of a source or a target."""

    source_vocab_size: int
    vocab_size: int
    d_model: int
    nhead: int
    num_encoder_layers: int
    num_decoder_layers: int
    dim_feedforward: int
    max_length: int
    activation: str
    norm_first: bool


class TranslatorModel(EncoderDecoder):
    """Embeddings, positions, an `nn.Transformer`, and the target's embeddings again, which make its logits.

    Embeddings are multiplied by ``sqrt(E)`` before positions are added (section 3.4 of the paper).

    Parameters
    ----------
    config
        The sizes.

    Attributes
    ----------
    source_embedding : nn.Embedding
    transformer : nn.Transformer
    """

    def __init__(self, config: TranslatorConfig) -> None:
        self.config = config
        self.source_vocab_size, self.vocab_size = config.source_vocab_size, config.vocab_size
        self.source_length = self.context_length = config.max_length
        self.num_layers, self.num_key_value_heads = config.num_decoder_layers, config.nhead
        self.head_dim = config.d_model // config.nhead
        self.source_embedding = nn.Embedding(config.source_vocab_size, config.d_model)
        self.positions = nn.PositionalEncoding(config.d_model, config.max_length)
        self.transformer = nn.Transformer(
            config.d_model,
            config.nhead,
            config.num_encoder_layers,
            config.num_decoder_layers,
            config.dim_feedforward,
            activation=config.activation,
            norm_first=config.norm_first,
        )

    @property
    def width(self) -> int:
        """The size E of a hidden state."""
        return self.config.d_model

    def encode(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Run the encoder on token numbers: (B, Sm) to (B, Sm, E)."""
        ids, valid = self.check_sources(inputs, lengths)
        return self.transformer.encoder(self._placed(self.source_embedding(ids)), key_lengths=valid)

    def project_memory(self, memory: NDArray[Any], layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make the keys and values of a decoder layer's cross-attention, each (B, H, Sm, D)."""
        return self.transformer.decoder.layers[layer].multihead_attn.project_memory(memory)

    def hidden(self, ids: NDArray[np.intp], past: nn.DecoderPast) -> NDArray[Any]:
        """Compute the decoder's last hidden states of new tokens `ids`, (B, S) to (B, S, E), after `past`."""
        self.check_past(ids, past)
        return self.transformer.decoder(self._placed(self.embed(ids), past.positions), cache=past)

    def _placed(self, embedded: NDArray[Any], offset: ArrayLike = 0) -> NDArray[Any]:
        """Scale embeddings and add positions from `offset` on."""
        return self.positions(embedded * embedded.dtype.type(math.sqrt(self.width)), offset=offset)

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, which has them under the names that they have here.

        Raises
        ------
        ValueError
            If tensors are missing or do not fit the configuration.
        """
        slots = dict(self.named_parameters())
        fill(slots, {name: Source((name,)) for name in slots}, checkpoint)
        self.load_tables(checkpoint, _TABLE, _TABLE)


@dataclass(frozen=True)
class Alignment:
    """Where each word of a translation looked in its source.

    Attributes
    ----------
    source, target
        The tokens, in words; each side ends with that for the end.
    weights : (L, H, len(target), len(source)) float32 ndarray
        Cross-attention of L layers and H heads. Each row adds up to 1.
    """

    source: list[str]
    target: list[str]
    weights: NDArray[np.float32]

    @property
    def mean(self) -> NDArray[np.float32]:
        """The weights of the last layer, averaged over heads: (len(target), len(source)).

        Layers before it look around; the last one looks at what it translates.
        """
        average: NDArray[np.float32] = self.weights[-1].mean(axis=0)
        return average


class Translator(TextToTextModel):
    """The translator that comes with attnlib; `load_translator` makes it.

    Parameters
    ----------
    model
        The network.
    tokenizer
        Its words.

    Attributes
    ----------
    network : TranslatorModel
    words : WordTokenizer
    """

    def __init__(self, model: TranslatorModel, tokenizer: WordTokenizer) -> None:
        settings = GenerationSettings(
            start_id=tokenizer.start_id,
            end_ids=(tokenizer.end_id,),
            max_new_tokens=model.context_length - 1,
        )
        super().__init__(model, tokenizer, settings)
        self.network = model
        self.words = tokenizer

    @overload
    def translate(self, texts: str) -> str: ...

    @overload
    def translate(self, texts: list[str]) -> list[str]: ...

    def translate(self, texts: str | list[str]) -> str | list[str]:
        """Translate French into English, sentence by sentence, in lower case.

        Parameters
        ----------
        texts
            A text, or a list of them. Capitals do not matter; accents do.

        Returns
        -------
        str, or list of str

        Raises
        ------
        ValueError
            If a text is empty, holds a word that the model does not know (the message names it), or has a
            sentence of more tokens than the model reads.

        Examples
        --------
        >>> from attnlib import models
        >>> translator = models.load_translator()
        >>> translator.translate("je suis étudiant")
        'i am a student'
        >>> translator.translate(["L'homme ne mange pas de viande.", "Où est la gare ?"])
        ['the man does not eat any meat.', 'where is the station?']
        """
        several = [texts] if isinstance(texts, str) else list(texts)
        sentences = [self.words.encode_sentences(text) for text in several]
        generated = iter(self.generate([ids for text in sentences for ids in text]))
        results = [" ".join(next(generated).text for _ in text) for text in sentences]
        return results[0] if isinstance(texts, str) else results

    def align(self, sentence: str) -> Alignment:
        """Translate one sentence and show where each word of the translation looked.

        Raises
        ------
        ValueError
            As `translate`; or if there are several sentences.

        Examples
        --------
        >>> from attnlib import models
        >>> alignment = models.load_translator().align("une pomme rouge")
        >>> alignment.target
        ['a', 'red', 'apple', '<end>']
        >>> alignment.weights.shape[2:]
        (4, 4)
        """
        sentences = self.words.encode_sentences(sentence)
        if len(sentences) > 1:
            raise ValueError(f"align: one sentence at a time, got {len(sentences)}")
        source = sentences[0]
        tokens = self.generate(source).tokens
        # Each step looks before it writes: the row of a word is that of the token before it.
        ids = np.array([[self.words.start_id, *tokens[:-1]]])
        # Here, since translating needs no pictures.
        from attnlib.viz import encoder_decoder_weights

        _, _, cross = encoder_decoder_weights(self.network, [source], ids)
        return Alignment(
            self.words.source_pieces(source),
            self.words.pieces(tokens),
            cross.weights.astype(np.float32, copy=False),
        )


def load_translator(*, dtype: DTypeLike = "float32") -> Translator:
    """Load the French-English translator that comes with attnlib; it needs no optional package.

    Parameters
    ----------
    dtype
        What the weights become: ``"float32"`` (default), ``"bfloat16"``, ``"int8"`` or ``"int4"``.

    Returns
    -------
    Translator

    Raises
    ------
    ValueError
        If `dtype` is none of these.
    """
    return read_translator(SafetensorsFile(_FILE, checked=False), dtype=dtype)


def read_translator(file: SafetensorsFile, *, dtype: DTypeLike = "float32") -> Translator:
    """Make a translator of a file as ``tools/train_translator.py`` writes it.

    Raises
    ------
    ValueError
        If `dtype` is not known, or tensors do not fit the metadata.
    """
    if "translator" not in file.metadata:
        raise ValueError(f"{file.path}: the metadata have no entry called translator")
    fields = Fields(file.path, json.loads(file.metadata["translator"]))
    tokenizer = WordTokenizer(fields.get("source"), fields.get("target"))
    model = TranslatorModel(
        TranslatorConfig(
            source_vocab_size=len(tokenizer.source),
            vocab_size=len(tokenizer.target),
            d_model=fields.integer("d_model", 1, 1 << 16),
            nhead=fields.integer("nhead", 1, 1 << 10),
            num_encoder_layers=fields.integer("num_encoder_layers", 1, 1 << 10),
            num_decoder_layers=fields.integer("num_decoder_layers", 1, 1 << 10),
            dim_feedforward=fields.integer("dim_feedforward", 1, 1 << 18),
            max_length=fields.integer("max_length", 2, 1 << 24),
            activation=fields.text("activation"),
            norm_first=fields.boolean("norm_first", False),
        )
    )
    model.prepare(dtype)
    model.load(file)
    return Translator(model, tokenizer)
