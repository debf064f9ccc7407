"""One layer of the Transformer's decoder (Vaswani et al., 2017).

Letters: B batch, S target tokens, Sm memory tokens, E d_model, F dim_feedforward, H heads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib._core import decode_rows
from attnlib.arrays import as_array
from attnlib.nn.attention import MultiheadAttention
from attnlib.nn.decoder_past import DecoderPast
from attnlib.nn.linear import Linear
from attnlib.nn.module import Module
from attnlib.nn.normalization import LayerNorm
from attnlib.nn.sublayers import (
    check_activation,
    check_lengths,
    check_mask,
    check_tokens,
    feed_forward,
    normalise_in_place,
)

__all__ = ["TransformerDecoderLayer"]

_Sublayer = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


class TransformerDecoderLayer(Module):
    """One layer of the decoder: self-attention, cross-attention, then a feed-forward network.

    In *self-attention* the tokens of the target look at one another. It is *causal*: token i sees tokens 0
    to i only. When the decoder writes, token i + 1 does not exist yet, and in training nobody may copy the
    answer from it; so all positions of a known target can be computed at once, each as if it were the last.

    In *cross-attention* the queries come from the target, keys and values from the memory, the output of
    the encoder: each target token asks the source what matters to it. The source is complete, so nothing is
    causal there. (Bahdanau, Cho and Bengio, 2015, had the idea; Vaswani et al., 2017, made all of it
    attention.)

    ``x = norm1(x + self_attn(x)); x = norm2(x + multihead_attn(x, memory)); x = norm3(x + network(x))``, or
    with `norm_first` (Xiong et al., 2020, arXiv:2002.04745) ``x = x + self_attn(norm1(x))`` and so on, where
    ``network(x) = linear2(activation(linear1(x)))``. The memory is not normalised here.

    Parameters
    ----------
    d_model
        Size E of a token, of target and memory alike.
    nhead
        Heads H; E is a multiple of it.
    dim_feedforward
        Inner size F of the feed-forward network. Default 2048.
    dropout
        Taken for the sake of ``torch.nn`` and without effect: these layers are for inference.
    activation
        ``"relu"`` (default), ``"gelu"`` (exact), ``"gelu_tanh"``, ``"silu"`` or ``"tanh"``.
    layer_norm_eps
        Default 1e-5.
    batch_first
        Only True, the default.
    norm_first
        Normalise before attention and network instead of after. Default False.
    bias
        Whether projections and norms have biases. Default True.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them.

    Attributes
    ----------
    self_attn, multihead_attn : MultiheadAttention(E, H)
        Self-attention and cross-attention.
    linear1, linear2 : Linear(E, F), Linear(F, E)
    norm1, norm2, norm3 : LayerNorm(E)

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.TransformerDecoderLayer(8, 2, 16)
    >>> rng = np.random.default_rng(0)
    >>> tgt, memory = rng.standard_normal((1, 3, 8)), rng.standard_normal((1, 5, 8))
    >>> out = layer(tgt, memory)
    >>> out.shape
    (1, 3, 8)

    The first tokens know nothing of those that follow them:

    >>> bool((layer(tgt[:, :2], memory) == out[:, :2]).all())
    True
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_activation("TransformerDecoderLayer", activation)
        self.activation = activation
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, bias=bias, batch_first=batch_first, rng=rng)
        self.multihead_attn = MultiheadAttention(d_model, nhead, bias=bias, batch_first=batch_first, rng=rng)
        self.linear1 = Linear(d_model, dim_feedforward, bias, rng=rng)
        self.linear2 = Linear(dim_feedforward, d_model, bias, rng=rng)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias)

    def __call__(
        self,
        tgt: ArrayLike,
        memory: ArrayLike | None = None,
        *,
        causal: bool = True,
        mask: NDArray[np.bool_] | None = None,
        bias: NDArray[Any] | None = None,
        tgt_lengths: ArrayLike | None = None,
        memory_mask: NDArray[np.bool_] | None = None,
        memory_lengths: ArrayLike | None = None,
        cache: DecoderPast | None = None,
        index: int = 0,
    ) -> NDArray[Any]:
        """Run the layer.

        Parameters
        ----------
        tgt : (B, S, E) or (S, E)
            The target so far; with `cache` its new tokens, (B, S, E).
        memory : (B, Sm, E), (1, Sm, E) or (Sm, E)
            What the encoder made of the source; one for each target, or one for all of them. Not with
            `cache`.
        causal
            Each target token attends only to itself and those before it. Default True.
        mask : bool, broadcastable to (B, H, S, S), optional
            For self-attention; True may attend. It restricts further what `causal` allows. With `cache` it
            is broadcastable to (B, H, S, L), L being the tokens of the longest target, old and new.
        bias : float, broadcastable to (B, H, S, S), optional
            Added to the scores of self-attention: that of `RelativePositionBias`, say. Or to (B, H, S, L).
        tgt_lengths : (B,) integers, optional
            Only so many tokens of each target are valid; the results of the others mean nothing. Not with
            `cache`: targets of different lengths begin apart, and `DecoderPast.join` puts them together.
        memory_mask : bool, broadcastable to (B, H, S, Sm), optional
            For cross-attention; True may attend.
        memory_lengths : (B,) integers, optional
            Only so many tokens of each memory are valid. Not with `cache`.
        cache, index : DecoderPast and int, optional
            What stands before `tgt`, to which this adds it, and which of its layers this is. It has the
            memory's keys and values, as `TransformerDecoder.begin` makes them. If the call raises, that layer
            is as it was before. Default: nothing.

        Returns
        -------
        ndarray of the shape of `tgt`
            Valid tokens have the bits that their sequence has alone, without padding.

        Raises
        ------
        TypeError, ValueError
            For arrays that do not fit the layer, the cache or one another.
        """
        name, features = type(self).__name__, self.self_attn.embed_dim
        x = as_array(f"{name}: tgt", tgt)
        check_tokens(name, "tgt", x, features)
        if cache is not None:
            self._check_step(x, mask, bias, memory_mask, cache, (memory, tgt_lengths, memory_lengths))
            past, memory_past = cache.target, cache.memory

            def attend_step(tokens: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
                return self.self_attn.attend_to_cache(
                    tokens, past, index, append=True, mask=mask, bias=bias, causal=causal, residual=residual
                )

            def look_up(tokens: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
                return self.multihead_attn.attend_to_cache(
                    tokens, memory_past, index, append=False, mask=memory_mask, residual=residual
                )

            with past.undone_on_error(index):
                return self._run(x, attend_step, look_up)
        if memory is None:
            raise ValueError(f"{name}: memory is missing; only with cache there is none")
        read = as_array(f"{name}: memory", memory)
        check_tokens(name, "memory", read, features)
        batch, length, keys = x.shape[:-2], x.shape[-2], read.shape[-2]
        if read.ndim > x.ndim or read.shape[:-2] not in ((), (1,), batch):
            raise ValueError(f"{name}: memory of shape {read.shape} does not go with tgt of shape {x.shape}")
        lengths = check_lengths(name, "tgt_lengths", tgt_lengths, batch, length)
        read_lengths = check_lengths(name, "memory_lengths", memory_lengths, batch, keys)
        check_mask(name, "mask", mask, (*batch, self.self_attn.num_heads, length, length))
        check_mask(name, "memory_mask", memory_mask, (*batch, self.self_attn.num_heads, length, keys))

        def attend(tokens: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
            return self.self_attn(
                tokens, mask=mask, bias=bias, causal=causal, key_lengths=lengths, residual=residual
            )

        def attend_to_memory(tokens: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
            if lengths is None or length <= 1:
                return self.multihead_attn(
                    tokens, read, mask=memory_mask, key_lengths=read_lengths, residual=residual
                )
            return _attend_as_if_alone(
                self.multihead_attn, tokens, read, residual, lengths, memory_mask, read_lengths
            )

        return self._run(x, attend, attend_to_memory)

    def _run(self, x: NDArray[Any], attend: _Sublayer, attend_to_memory: _Sublayer) -> NDArray[Any]:
        """Put the three sublayers and the norms together; each gets its tokens and what it is added to."""

        def transform(tokens: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
            return feed_forward(self.linear1, self.linear2, self.activation, tokens, residual)

        if self.norm_first:
            x = attend(self.norm1(x), x)
            x = attend_to_memory(self.norm2(x), x)
            return transform(self.norm3(x), x)
        x = normalise_in_place(self.norm1, attend(x, x))
        x = normalise_in_place(self.norm2, attend_to_memory(x, x))
        return normalise_in_place(self.norm3, transform(x, x))

    def _check_step(
        self,
        x: NDArray[Any],
        mask: NDArray[np.bool_] | None,
        bias: NDArray[Any] | None,
        memory_mask: NDArray[np.bool_] | None,
        cache: DecoderPast,
        others: tuple[ArrayLike | None, ...],
    ) -> None:
        """Raise unless new tokens go with a cache, before anything is added to it."""
        name, heads = type(self).__name__, self.self_attn.num_heads
        if any(other is not None for other in others):
            raise ValueError(f"{name}: memory, tgt_lengths and memory_lengths do not go with cache")
        if x.ndim != 3 or len(x) != cache.batch_size:
            raise ValueError(
                f"{name}: tgt has shape {x.shape}, the cache needs ({cache.batch_size}, S, {x.shape[-1]})"
            )
        longest = int(cache.target.lengths.max(initial=0)) + x.shape[1]
        places = int(cache.memory.lengths.max(initial=0))
        scores = (len(x), heads, x.shape[1], longest)
        check_mask(name, "mask", mask, scores)
        if bias is not None:
            # Only the shape matters here: that of a mask.
            check_mask(name, "bias", np.broadcast_to(np.True_, np.shape(bias)), scores)
        check_mask(name, "memory_mask", memory_mask, (len(x), heads, x.shape[1], places))


def _most_rows(queries: int) -> int:
    """How many rows a target of so many valid queries may have, padding included, and keep its plan."""
    # `attnlib.attention` may decode, instead of tiling, up to so many; a single one with few keys too.
    return queries if queries <= 1 else decode_rows if queries <= decode_rows else sys.maxsize


def _attend_as_if_alone(
    cross_attention: MultiheadAttention,
    tokens: NDArray[Any],
    memory: NDArray[Any],
    residual: NDArray[Any],
    lengths: NDArray[np.int64],
    mask: NDArray[np.bool_] | None,
    memory_lengths: NDArray[np.int64] | None,
) -> NDArray[Any]:
    """Attend to the memory in the plan that each target would take without its padding.

    The plan of `attnlib.attention` goes by the number of queries, padding among them, and the two plans
    differ in the last bit. So short targets are cut to where the line is. What is cut off is left zero.
    """
    if tokens.ndim == 2:
        return _attend_as_if_alone(
            cross_attention,
            tokens[None],
            memory,
            residual[None],
            lengths[None],
            mask,
            None if memory_lengths is None else memory_lengths[None],
        ).squeeze(0)
    batch, length = tokens.shape[:2]
    memory = np.broadcast_to(memory, (batch, *memory.shape[-2:]))
    if mask is not None:
        mask = np.broadcast_to(mask, (batch, cross_attention.num_heads, length, memory.shape[1]))
    out: NDArray[Any] | None = None
    start = 0
    # Neighbours between the same lines are one call, on views.
    for rows, group in groupby(min(length, _most_rows(valid)) for valid in lengths.tolist()):
        these = slice(start, start := start + len(list(group)))
        part = cross_attention(
            tokens[these, :rows],
            memory[these],
            mask=None if mask is None else mask[these, :, :rows],
            key_lengths=None if memory_lengths is None else memory_lengths[these],
            residual=residual[these, :rows],
        )
        if out is None:
            out = np.zeros(tokens.shape, part.dtype)
        out[these, :rows] = part
    return cross_attention(tokens, memory, residual=residual) if out is None else out
