"""Whisper (A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022).

Letters: B batch, M mel bands, T frames, Sm = T / 2 places of the memory, S target tokens, d the size of a
hidden state, H heads, D = d / H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib.functional import gelu
from attnlib.models.families.encoder_decoder import EncoderDecoder
from attnlib.models.families.encoder_decoder_names import (
    WithZeros,
    ctranslate2_source,
    huggingface_source,
)
from attnlib.models.files.checkpoint import Checkpoint, fill
from attnlib.models.files.config import Fields
from attnlib.models.files.ctranslate2_file import CTranslate2File
from attnlib.nn.initialisers import normal
from attnlib.nn.module import ArrayParameter, as_float_array

__all__ = ["WhisperConfig", "WhisperModel", "read_config", "read_ctranslate2_config"]

# Two convolutions, of which the second halves the number of frames.
_FRAMES_PER_PLACE = 2


@dataclass(frozen=True)
class WhisperConfig:
    """What tells one model from another, named as in ``config.json``."""

    vocab_size: int
    num_mel_bins: int
    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    max_source_positions: int
    max_target_positions: int
    tie_word_embeddings: bool = True


def read_config(file: Fields) -> WhisperConfig:
    """Read a ``config.json`` of Hugging Face."""
    file.choice("activation_function", {"gelu": None}, default="gelu")
    if file.boolean("scale_embedding", False):
        raise file.error("scale_embedding", "is true, which is not supported")
    width = file.integer("d_model", 1, 1 << 16)
    heads = {}
    for side in ("encoder", "decoder"):
        heads[side] = file.integer(f"{side}_attention_heads", 1, 1 << 10)
        if width % heads[side]:
            raise file.error(f"{side}_attention_heads", f"{heads[side]} does not divide d_model {width}")
    return WhisperConfig(
        vocab_size=file.integer("vocab_size", 1, 1 << 24),
        num_mel_bins=file.integer("num_mel_bins", 1, 1 << 10),
        d_model=width,
        encoder_layers=file.integer("encoder_layers", 1, 1 << 10),
        encoder_attention_heads=heads["encoder"],
        encoder_ffn_dim=file.integer("encoder_ffn_dim", 1, 1 << 18),
        decoder_layers=file.integer("decoder_layers", 1, 1 << 10),
        decoder_attention_heads=heads["decoder"],
        decoder_ffn_dim=file.integer("decoder_ffn_dim", 1, 1 << 18),
        max_source_positions=file.integer("max_source_positions", 1, 1 << 20),
        max_target_positions=file.integer("max_target_positions", 1, 1 << 20),
        tie_word_embeddings=file.boolean("tie_word_embeddings", True),
    )


def read_ctranslate2_config(file: CTranslate2File) -> WhisperConfig:
    """Find the sizes of a model in CTranslate2's layout: in the shapes of its tensors, and a few numbers."""
    if file.spec != "WhisperSpec":
        raise ValueError(f"{file.path}: {file.spec} of CTranslate2 is not supported, only WhisperSpec")
    gelu_number = 3
    for name, usual in (("pre_norm", 1), ("activation", gelu_number), ("alibi", 0), ("scale_embeddings", 0)):
        if (found := file.number(f"decoder/{name}", usual)) != usual:
            raise ValueError(f"{file.path}: decoder/{name} is {found:g}, only {usual} is supported")

    def shape(name: str, axes: int) -> tuple[int, ...]:
        found = file.shapes.get(name)
        if found is None:
            raise ValueError(f"{file.path}: {name} is missing")
        if len(found) != axes or 0 in found:
            raise ValueError(f"{file.path}: {name} is {found}, expected {axes} axes")
        return found

    def side(name: str) -> tuple[int, int, int]:
        """Find the layers, heads and inner size of the encoder or the decoder."""
        width = shape(f"{name}/position_encodings/encodings", 2)[1]
        number = file.number(f"{name}/num_heads")
        if not (1 <= number <= width and number == int(number)) or width % int(number):
            raise ValueError(f"{file.path}: {name}/num_heads {number} does not divide the width {width}")
        heads = int(number)
        layers = 0
        while f"{name}/layer_{layers}/ffn/linear_0/weight" in file:
            layers += 1
        return layers, heads, shape(f"{name}/layer_0/ffn/linear_0/weight", 2)[0]

    tokens, width = shape("decoder/embeddings/weight", 2)
    encoder_layers, encoder_heads, encoder_inner = side("encoder")
    decoder_layers, decoder_heads, decoder_inner = side("decoder")
    return WhisperConfig(
        vocab_size=tokens,
        num_mel_bins=shape("encoder/conv1/weight", 3)[1],
        d_model=width,
        encoder_layers=encoder_layers,
        encoder_attention_heads=encoder_heads,
        encoder_ffn_dim=encoder_inner,
        decoder_layers=decoder_layers,
        decoder_attention_heads=decoder_heads,
        decoder_ffn_dim=decoder_inner,
        max_source_positions=shape("encoder/position_encodings/encodings", 2)[0],
        max_target_positions=shape("decoder/position_encodings/encodings", 2)[0],
    )


class WhisperModel(EncoderDecoder):
    """A Whisper model: log-mel features in, logits of the transcript's tokens out.

    The encoder is two convolutions over time, the positions, and Transformer layers with the norms in front;
    the decoder is that of a language model with cross-attention to what the encoder made.

    Parameters
    ----------
    config
        The sizes.

    Attributes
    ----------
    conv1, conv2 : nn.Conv1d(M, d, 3), nn.Conv1d(d, d, 3, stride 2)
    source_positions, target_positions : (Sm, d), (context_length, d)
    encoder : nn.TransformerEncoder
    decoder : nn.TransformerDecoder
    """

    def __init__(self, config: WhisperConfig) -> None:
        self.config = config
        width = config.d_model
        self.vocab_size, self.context_length = config.vocab_size, config.max_target_positions
        self.source_length = config.max_source_positions
        self.num_layers, self.num_key_value_heads = config.decoder_layers, config.decoder_attention_heads
        self.head_dim = width // config.decoder_attention_heads
        self.conv1 = nn.Conv1d(config.num_mel_bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=_FRAMES_PER_PLACE, padding=1)
        self.source_positions = ArrayParameter((config.max_source_positions, width), normal)
        self.target_positions = ArrayParameter((config.max_target_positions, width), normal)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                width,
                config.encoder_attention_heads,
                config.encoder_ffn_dim,
                activation="gelu",
                norm_first=True,
            ),
            config.encoder_layers,
            nn.LayerNorm(width),
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(
                width,
                config.decoder_attention_heads,
                config.decoder_ffn_dim,
                activation="gelu",
                norm_first=True,
            ),
            config.decoder_layers,
            nn.LayerNorm(width),
        )

    @property
    def width(self) -> int:
        """The size d of a hidden state."""
        return self.config.d_model

    @property
    def frames(self) -> int:
        """The frames T that the encoder takes, 3000 for all published models."""
        return _FRAMES_PER_PLACE * self.config.max_source_positions

    def encode(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Run the encoder.

        Parameters
        ----------
        inputs : (B, M, T)
            Features, as `attnlib.models.audio.LogMel` makes them: always `frames` of them, since the model
            knows silence only as sound.
        lengths
            Must be None: all places count.

        Returns
        -------
        memory : (B, Sm, d) ndarray

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        caller = f"{type(self).__name__}.encode"
        features = as_float_array(caller, "inputs", inputs)
        wanted = (self.config.num_mel_bins, self.frames)
        if features.ndim != 3 or features.shape[1:] != wanted:
            raise ValueError(
                f"{caller}: inputs has shape {features.shape}, expected (B, {wanted[0]}, {wanted[1]})"
            )
        if lengths is not None:
            raise ValueError(f"{caller}: lengths must be None: silence after a sound is part of the features")
        x = features.astype(self.dtype, copy=False)
        for convolution in (self.conv1, self.conv2):
            # The convolution computes (B, T, d) and shows its transpose.
            steps = convolution(x).swapaxes(1, 2)
            x = gelu(steps, out=steps).swapaxes(1, 2)
        steps += self.source_positions.value
        return self.encoder(steps)

    def project_memory(self, memory: NDArray[Any], layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make the keys and values of a decoder layer's cross-attention, each (B, H, Sm, D)."""
        return self.decoder.layers[layer].multihead_attn.project_memory(memory)

    def hidden(self, ids: NDArray[np.intp], past: nn.DecoderPast) -> NDArray[Any]:
        """Compute the decoder's last hidden states of new tokens `ids`, (B, S) to (B, S, d), after `past`."""
        self.check_past(ids, past)
        places = past.positions[:, None] + np.arange(ids.shape[1])
        return self.decoder(self.embed(ids) + self.target_positions.value[places], cache=past)

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, of Hugging Face or of CTranslate2, layer by layer.

        Raises
        ------
        ValueError
            If tensors are missing or do not fit the configuration.
        """
        slots = dict(self.named_parameters())
        if isinstance(checkpoint, CTranslate2File):
            fill(slots, {name: ctranslate2_source(name) for name in slots}, checkpoint)
            self.load_tables(checkpoint, "decoder/embeddings/weight", "decoder/projection/weight")
            return
        sources = {name: huggingface_source(name) for name in slots}
        fill(slots, sources, WithZeros(checkpoint, sources.values(), self.width))
        tokens = "model.decoder.embed_tokens.weight"
        self.load_tables(checkpoint, tokens, tokens if self.config.tie_word_embeddings else "proj_out.weight")
