"""What a model attends to in a text: the weights of its real forward pass, by layer and head.

Letters: B batch (1), S tokens, Sm places of the memory, d the size of a hidden state.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.functional import AttentionCall, observe_attention
from attnlib.viz.attention_maps import AttentionMaps
from attnlib.viz.recording import LayerRecorder

if TYPE_CHECKING:
    from attnlib.models import LanguageModel, SentenceEncoder

__all__ = ["attention_weights", "encoder_decoder_weights"]


def attention_weights(
    model: SentenceEncoder | LanguageModel,
    text: str | Sequence[int],
    *,
    layers: Collection[int] | None = None,
) -> AttentionMaps:
    """Run a model over a text and keep the attention weights of all heads.

    Parameters
    ----------
    model
        A sentence encoder or a language model, of `attnlib.models.load`.
    text
        One text, which is turned into tokens as the model does; a language model also takes token numbers.
    layers
        The numbers of the layers to keep, from 0. Default: all. They take 4 H S^2 bytes each.

    Returns
    -------
    AttentionMaps
        Of kind ``"encoder"`` for a sentence encoder, ``"decoder"`` for a language model. Query heads that
        share keys (grouped-query attention) have a map each.

    Raises
    ------
    TypeError
        If the model is of neither kind.
    ValueError
        If the text is empty or too long for the model, or a layer is not there.

    Examples
    --------
    >>> import attnlib.models
    >>> from attnlib import viz
    >>> encoder = attnlib.models.load("all-MiniLM-L6-v2")  # doctest: +SKIP
    >>> viz.attention_weights(encoder, "The cat sat.")  # doctest: +SKIP
    AttentionMaps(encoder: 6 layers, 12 heads, 6 queries, 6 keys)
    """
    from attnlib.models import LanguageModel, SentenceEncoder

    recorder = LayerRecorder(layers)
    if isinstance(model, SentenceEncoder):
        if not isinstance(text, str):
            raise TypeError(f"attention_weights: a sentence encoder takes a str, got {type(text).__name__}")
        (ids,) = model.tokenize([text])
        if not ids.size:
            raise ValueError("attention_weights: the text has no tokens")
        tokens = model.tokenizer.pieces(ids.tolist())
        with observe_attention(recorder):
            model.model(ids, np.array([0, ids.size]))
        return recorder.maps(tokens, tokens, "encoder")
    if isinstance(model, LanguageModel):
        numbers = model.encode(text)
        checked = model.decoder.check_ids("attention_weights", numbers)
        if checked.ndim != 1 or checked.size > model.decoder.context_length:
            raise ValueError(
                f"attention_weights: the text has tokens of shape {checked.shape}, expected at most "
                f"({model.decoder.context_length},)"
            )
        tokens = list(map(str, numbers)) if model.tokenizer is None else model.tokenizer.pieces(numbers)
        with observe_attention(recorder):
            model.decoder.hidden(checked[None])
        return recorder.maps(tokens, tokens, "decoder")
    raise TypeError(
        f"attention_weights: model must be a SentenceEncoder or a LanguageModel, got {type(model).__name__}; "
        "record_attention takes layers and models of any kind"
    )


class _EncoderDecoder(Protocol):
    """The three steps of `attnlib.models.encoder_decoder.EncoderDecoder`."""

    def encode(self, inputs: ArrayLike, /) -> NDArray[Any]: ...

    def begin(self, memory: NDArray[Any], /, *, capacity: int) -> Any: ...

    def hidden(self, ids: NDArray[np.intp], past: Any, /) -> NDArray[Any]: ...


def encoder_decoder_weights(
    network: _EncoderDecoder,
    inputs: ArrayLike,
    ids: ArrayLike,
    source: Sequence[str] = (),
    target: Sequence[str] = (),
    *,
    layers: Collection[int] | None = None,
) -> tuple[AttentionMaps, AttentionMaps, AttentionMaps]:
    """Run an encoder-decoder over a source and a target, and keep the weights of its three attentions.

    Parameters
    ----------
    network
        The network, which takes token numbers or features.
    inputs : (1, Sm) integers, or features
        The source, as ``network.encode`` takes it.
    ids : (1, S) integers
        The target, from the token that decoding starts with on.
    source, target
        The tokens to show for them. Default: their places.
    layers
        The numbers of the layers to keep, from 0. Default: all.

    Returns
    -------
    encoder, decoder, cross : AttentionMaps
        What the source's tokens see of each other, the target's of those before them, and the target's of
        the source.

    Raises
    ------
    ValueError
        If a layer is not there, or what the network raises.
    """
    encoder, decoder, cross = (LayerRecorder(layers) for _ in range(3))

    def observer(call: AttentionCall) -> None:
        # Of the two attentions in a decoder's layer, that to the target's own past alone is causal.
        (decoder if call.options["causal"] else cross)(call)

    targets = np.asarray(ids)
    with observe_attention(encoder):
        memory = network.encode(inputs)
    past = network.begin(memory, capacity=targets.shape[-1])
    with observe_attention(observer):
        network.hidden(targets, past)
    return (
        encoder.maps(source, source, "encoder"),
        decoder.maps(target, target, "decoder"),
        cross.maps(target, source, "cross"),
    )
