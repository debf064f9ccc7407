"""The encoder of the Transformer (Vaswani et al., 2017): self-attention, then a feed-forward network.

Letters: B batch, S tokens, E d_model, F dim_feedforward, H heads, T tokens of packed sequences.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array
from attnlib.nn.attention import MultiheadAttention
from attnlib.nn.linear import Linear
from attnlib.nn.module import Module, check_layers, check_size, in_native_order
from attnlib.nn.normalization import LayerNorm, RMSNorm
from attnlib.nn.one_call import encode_in_one_call
from attnlib.nn.sublayers import check_activation, feed_forward, normalise_in_place

__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]


class TransformerEncoderLayer(Module):
    """One layer of the encoder.

    ``x = norm1(x + self_attn(x)); x = norm2(x + linear2(activation(linear1(x))))``, or with `norm_first`
    ``x = x + self_attn(norm1(x)); x = x + linear2(activation(linear1(norm2(x))))``.

    Parameters
    ----------
    d_model
        Size E of a token.
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
    self_attn : MultiheadAttention(E, H)
    linear1, linear2 : Linear(E, F), Linear(F, E)
    norm1, norm2 : LayerNorm(E)

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, activation="gelu")
    >>> layer(np.zeros((1, 3, 8), np.float32), key_lengths=[2]).shape
    (1, 3, 8)
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
        check_activation("TransformerEncoderLayer", activation)
        self.activation = activation
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, bias=bias, batch_first=batch_first, rng=rng)
        self.linear1 = Linear(d_model, dim_feedforward, bias, rng=rng)
        self.linear2 = Linear(dim_feedforward, d_model, bias, rng=rng)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias)

    def __call__(
        self,
        x: ArrayLike,
        *,
        mask: NDArray[np.bool_] | None = None,
        bias: NDArray[Any] | None = None,
        causal: bool = False,
        key_lengths: ArrayLike | None = None,
        cu_seqlens: NDArray[np.integer[Any]] | None = None,
    ) -> NDArray[Any]:
        """Run the layer.

        Parameters
        ----------
        x : (B, S, E) or (S, E); (T, E) with `cu_seqlens`
        mask : bool, broadcastable to (B, H, S, S), optional
            True may attend.
        bias : float, broadcastable to (B, H, S, S), optional
            Added to the scores; see `MultiheadAttention` for its meaning with `cu_seqlens`.
        causal
            Each token attends only to itself and those before it. Default False.
        key_lengths : (B,) integers, optional
            Only so many tokens of each batch entry are valid; the results of the others mean nothing.
        cu_seqlens : (N + 1,) int32 or int64, optional
            N sequences packed end to end without padding, sequence n in rows ``cu_seqlens[n]`` to
            ``cu_seqlens[n + 1]`` of `x`. The results have the same bits as with padding and `key_lengths`.
            `mask` and `key_lengths` do not go with it.

        Returns
        -------
        ndarray of the shape of `x`

        Raises
        ------
        TypeError, ValueError
            For arrays that do not fit the layer or one another.
        """
        x = as_array("TransformerEncoderLayer: x", x)
        if mask is None and bias is None and key_lengths is None:
            done = _in_one_call([self], x, causal, cu_seqlens)
            if done is not None:
                return done

        def attend(tokens: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
            return self.self_attn(
                tokens,
                mask=mask,
                bias=bias,
                causal=causal,
                key_lengths=key_lengths,
                cu_seqlens=cu_seqlens,
                residual=residual,
            )

        def transform(tokens: NDArray[Any], residual: NDArray[Any]) -> NDArray[Any]:
            return feed_forward(self.linear1, self.linear2, self.activation, tokens, residual)

        if self.norm_first:
            x = attend(self.norm1(x), x)
            return transform(self.norm2(x), x)
        x = normalise_in_place(self.norm1, attend(x, x))
        return normalise_in_place(self.norm2, transform(x, x))


class TransformerEncoder(Module):
    """A stack of encoder layers.

    Parameters
    ----------
    encoder_layer
        The model for all layers: each is a copy of it, with its parameters if it has any yet.
    num_layers
        How many.
    norm
        Applied after the last layer. Default None.
    enable_nested_tensor, mask_check
        As in `torch.nn.TransformerEncoder`, and of no effect: padding is never computed on.

    Attributes
    ----------
    layers : list of TransformerEncoderLayer
    norm : LayerNorm, RMSNorm or None

    Raises
    ------
    TypeError, ValueError
        If the layer or the norm is none, or `num_layers` no number of layers.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    >>> encoder(np.zeros((5, 8), np.float32), cu_seqlens=np.array([0, 2, 5])).shape
    (5, 8)
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: LayerNorm | RMSNorm | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        check_size("TransformerEncoder", num_layers=num_layers)
        check_layers(
            "TransformerEncoder", encoder_layer=encoder_layer, **({} if norm is None else {"norm": norm})
        )
        self.layers = [copy.deepcopy(encoder_layer) for _ in range(num_layers)]
        self.norm = norm

    def __call__(
        self,
        x: ArrayLike,
        *,
        mask: NDArray[np.bool_] | None = None,
        bias: NDArray[Any] | None = None,
        causal: bool = False,
        key_lengths: ArrayLike | None = None,
        cu_seqlens: NDArray[np.integer[Any]] | None = None,
    ) -> NDArray[Any]:
        """Run all layers; parameters, result and errors as for `TransformerEncoderLayer`."""
        x = in_native_order(as_array("TransformerEncoder: x", x))
        layers: Sequence[TransformerEncoderLayer] = self.layers
        if mask is None and bias is None and key_lengths is None:
            done = _in_one_call(layers, x, causal, cu_seqlens)
            if done is not None:
                x, layers = done, ()
        for layer in layers:
            x = layer(x, mask=mask, bias=bias, causal=causal, key_lengths=key_lengths, cu_seqlens=cu_seqlens)
        return x if self.norm is None else self.norm(x)


def _in_one_call(
    layers: Sequence[TransformerEncoderLayer],
    x: NDArray[Any],
    causal: bool,
    cu_seqlens: NDArray[np.integer[Any]] | None,
) -> NDArray[Any] | None:
    """Run layers of this very class in one native call; None if each has to be called."""
    if any(type(layer) is not TransformerEncoderLayer for layer in layers):
        return None
    return encode_in_one_call(layers, x, causal, cu_seqlens)
