"""What a model attends to in a text: the weights of its real forward pass, by layer and head.

Letters: S tokens, Sm places of the memory, H heads.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.functional import AttentionCall, observe_attention
from attnlib.viz.attention_maps import AttentionMaps
from attnlib.viz.recording import LayerRecorder

if TYPE_CHECKING:
    from attnlib.models import LanguageModel, SentenceEncoder, TextToTextModel
    from attnlib.models.families.encoder_decoder import EncoderDecoder

__all__ = ["attention_weights", "encoder_decoder_weights"]

Three = tuple[AttentionMaps, AttentionMaps, AttentionMaps]


@overload
def attention_weights(
    model: SentenceEncoder | LanguageModel,
    text: str | Sequence[int],
    *,
    layers: int | Collection[int] | None = None,
) -> AttentionMaps: ...


@overload
def attention_weights(
    model: TextToTextModel,
    text: str | Sequence[int],
    *,
    target: Sequence[int] | None = None,
    layers: int | Collection[int] | None = None,
) -> Three: ...


def attention_weights(
    model: SentenceEncoder | LanguageModel | TextToTextModel,
    text: str | Sequence[int],
    *,
    target: Sequence[int] | None = None,
    layers: int | Collection[int] | None = None,
) -> AttentionMaps | Three:
    """Run a model over a text and keep the attention weights of all heads.

    Parameters
    ----------
    model
        What `attnlib.models.load` returns.
    text
        One text, which is turned into tokens as the model does. All but sentence encoders also take token
        numbers.
    target
        Only with an encoder-decoder: the token numbers that it is to have written. Default: what it writes.
    layers
        The number of one layer to keep, from 0, or of several. Default: all. They take 4 H S^2 bytes each.

    Returns
    -------
    AttentionMaps
        Of kind ``"encoder"`` for a sentence encoder, ``"decoder"`` for a language model. Query heads that
        share keys (grouped-query attention) have a map each.
    encoder, decoder, cross : AttentionMaps
        For an encoder-decoder, as `encoder_decoder_weights` returns them.

    Raises
    ------
    TypeError
        If the model is of none of these kinds, or does not go with an argument.
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
    from attnlib.models import LanguageModel, SentenceEncoder, TextToTextModel

    if isinstance(model, TextToTextModel):
        return _of_text_to_text(model, text, target, layers)
    if target is not None:
        raise TypeError(f"attention_weights: a {type(model).__name__} takes no target")
    if isinstance(model, SentenceEncoder):
        return _of_encoder(model, text, layers)
    if isinstance(model, LanguageModel):
        return _of_decoder(model, text, layers)
    raise TypeError(
        f"attention_weights: model must be a SentenceEncoder, LanguageModel or TextToTextModel, got "
        f"{type(model).__name__}; record_attention takes layers and models of any kind"
    )


def _of_encoder(
    model: SentenceEncoder, text: str | Sequence[int], layers: int | Collection[int] | None
) -> AttentionMaps:
    if not isinstance(text, str):
        raise TypeError(f"attention_weights: a SentenceEncoder takes a str, got {type(text).__name__}")
    (ids,) = model.tokenize([text])
    if not ids.size:
        raise ValueError("attention_weights: the text has no tokens")
    tokens = model.tokenizer.pieces(ids.tolist())
    recorder = LayerRecorder(layers)
    with observe_attention(recorder):
        model.model(ids, np.array([0, ids.size]))
    return recorder.maps(tokens, tokens, "encoder")


def _of_decoder(
    model: LanguageModel, text: str | Sequence[int], layers: int | Collection[int] | None
) -> AttentionMaps:
    ids = _one_sequence("text", model.decoder.check_ids("attention_weights", model.encode(text)))
    if ids.size > model.decoder.context_length:
        raise ValueError(
            f"attention_weights: the text has {ids.size} tokens, the context is "
            f"{model.decoder.context_length}"
        )
    tokens = _pieces(model, ids)
    recorder = LayerRecorder(layers)
    with observe_attention(recorder):
        model.decoder.hidden(ids[None])
    return recorder.maps(tokens, tokens, "decoder")


def _of_text_to_text(
    model: TextToTextModel,
    text: str | Sequence[int],
    target: Sequence[int] | None,
    layers: int | Collection[int] | None,
) -> Three:
    network = model.encoder_decoder
    source = _one_sequence("text", network.check_source("attention_weights", model.encode(text)))
    if target is None:
        target = model.generate(source.tolist()).tokens
        # Nothing is written after the token that ends it, so that it looks at nothing.
        target = target[:-1] if target and target[-1] in model.settings.end_ids else target
    ids = network.check_targets("attention_weights", [[model.settings.start_id, *target]])
    if model.tokenizer is None:
        read = list(map(str, source.tolist()))
    else:
        read = model.tokenizer.source_pieces(source.tolist())
    return encoder_decoder_weights(network, source[None], ids, read, _pieces(model, ids[0]), layers=layers)


def _one_sequence(name: str, ids: NDArray[np.intp]) -> NDArray[np.intp]:
    if ids.ndim != 1:
        raise ValueError(f"attention_weights: {name} must be one sequence, got shape {ids.shape}")
    return ids


def _pieces(model: LanguageModel | TextToTextModel, ids: NDArray[np.intp]) -> list[str]:
    numbers = ids.tolist()
    return list(map(str, numbers)) if model.tokenizer is None else model.tokenizer.pieces(numbers)


def encoder_decoder_weights(
    network: EncoderDecoder,
    inputs: ArrayLike,
    ids: ArrayLike,
    source: Sequence[str] = (),
    target: Sequence[str] = (),
    *,
    layers: int | Collection[int] | None = None,
) -> Three:
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
        The number of one layer to keep, from 0, or of several. Default: all.

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
    past: Any = network.begin(memory, capacity=targets.shape[-1])
    with observe_attention(observer):
        network.hidden(targets, past)
    return (
        encoder.maps(source, source, "encoder"),
        decoder.maps(target, target, "decoder"),
        cross.maps(target, source, "cross"),
    )
