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
from attnlib.functional import EncoderLayerParts, encoder_layers
from attnlib.functional.observer import OBSERVER
from attnlib.nn.attention import MultiheadAttention
from attnlib.nn.linear import Linear
from attnlib.nn.module import Module, check_layers, check_size, in_native_order
from attnlib.nn.normalization import LayerNorm, RMSNorm
from attnlib.nn.sublayers import check_activation, feed_forward, normalise_in_place

__all__ = ["TransformerEncoder", "TransformerEncoderLayer"]

# So few tokens go through all layers in one native call. The gain was measured with 16 tokens; the more there
# are, the smaller a part of their time are Python and the waking of threads. 64 was chosen, not measured.
_FEW_TOKENS = 64


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
    """Run all layers in one native call, to the same bits, if tokens are few and the layers plain.

    Everything else is left to the layers' own calls, and so is what the native call refuses: they say in
    their own words what is wrong.
    """
    if (
        not 2 <= x.ndim <= (3 if cu_seqlens is None else 2)
        or not 0 < x.size <= _FEW_TOKENS * x.shape[-1]
        or not layers
        or OBSERVER.get() is not None
    ):
        return None
    parts = []
    for layer in layers:
        part = _parts(layer, x)
        if part is None:
            return None
        parts.append(part)
    if cu_seqlens is None:
        cu_seqlens = np.arange(0, x.size // x.shape[-1] + 1, x.shape[-2])
    try:
        result = encoder_layers(x.reshape(-1, x.shape[-1]), parts, cu_seqlens, causal=causal).reshape(x.shape)
    except (TypeError, ValueError):
        return None
    # Weights of a wider dtype widen what each layer makes one after the other, not all from the beginning.
    return result if result.dtype == x.dtype else None


def _parts(layer: Module, x: NDArray[Any]) -> EncoderLayerParts | None:
    """Collect what a layer consists of; None unless it is plain, and its arrays are of the dtype of `x`."""
    if type(layer) is not TransformerEncoderLayer or type(layer.self_attn) is not MultiheadAttention:
        return None
    attention, linear1, linear2 = layer.self_attn, layer.linear1, layer.linear2
    norm1, norm2, out_proj = layer.norm1, layer.norm2, attention.out_proj
    if (
        not (type(linear1) is type(linear2) is type(out_proj) is Linear)
        or not (type(norm1) is type(norm2) is LayerNorm)
        or not (norm1.normalized_shape == norm2.normalized_shape == x.shape[-1:])
        or not (attention.embed_dim == attention.num_heads * attention.head_dim == x.shape[-1])
        or attention.in_proj_weight is None
        or len(in_proj := attention.in_proj_weight.cut(1)) > 1
    ):
        return None
    biases = (attention.in_proj_bias, out_proj.bias, linear1.bias, linear2.bias)
    norms = (norm1.weight, norm1.bias, norm2.weight, norm2.bias)
    arrays = [None if parameter is None else parameter.value for parameter in biases + norms]
    if any(array is not None and array.dtype != x.dtype for array in arrays):
        return None
    return EncoderLayerParts(
        in_proj=in_proj[0],
        in_bias=arrays[0],
        out_proj=out_proj.weight.value,
        out_bias=arrays[1],
        linear1=linear1.weight.value,
        linear1_bias=arrays[2],
        linear2=linear2.weight.value,
        linear2_bias=arrays[3],
        norm1_weight=arrays[4],
        norm1_bias=arrays[5],
        norm1_eps=norm1.eps,
        norm2_weight=arrays[6],
        norm2_bias=arrays[7],
        norm2_eps=norm2.eps,
        heads=attention.num_heads,
        activation=layer.activation,
        norm_first=bool(layer.norm_first),
    )
