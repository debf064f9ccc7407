"""The whole Transformer of "Attention is all you need" (Vaswani et al., 2017): encoder and decoder.

Letters: B batch, Ss source tokens, S target tokens, E d_model, F dim_feedforward, H heads.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array
from attnlib.nn.decoder import TransformerDecoder
from attnlib.nn.decoder_layer import TransformerDecoderLayer
from attnlib.nn.encoder import TransformerEncoder, TransformerEncoderLayer
from attnlib.nn.initialisers import uniform, xavier_bound
from attnlib.nn.module import Module
from attnlib.nn.normalization import LayerNorm
from attnlib.nn.sublayers import check_lengths, check_mask, check_tokens

__all__ = ["Transformer"]


class Transformer(Module):
    """An encoder that reads a source, and a decoder that writes a target with the source in view.

    Both take vectors: embedding tokens, adding positions (`PositionalEncoding`) and turning results into
    probabilities of words is left to the model around it, as in ``torch.nn``.

    Parameters
    ----------
    d_model
        Size E of a token. Default 512.
    nhead
        Heads H; E is a multiple of it. Default 8.
    num_encoder_layers, num_decoder_layers
        Default 6 each.
    dim_feedforward
        Inner size F of the feed-forward networks. Default 2048.
    dropout
        Taken for the sake of ``torch.nn`` and without effect: these layers are for inference.
    activation
        ``"relu"`` (default), ``"gelu"`` (exact), ``"gelu_tanh"``, ``"silu"`` or ``"tanh"``.
    custom_encoder, custom_decoder
        Taken as they are, with their parameters, instead of the stacks that are otherwise made; of the same
        `d_model` and `nhead`.
    layer_norm_eps
        Default 1e-5.
    batch_first
        Only True, the default.
    norm_first
        Normalise before attention and network instead of after. Default False. Either way both stacks end
        with a norm.
    bias
        Whether projections and norms have biases. Default True.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them. All weights of products are Xavier-uniform, as in PyTorch.

    Attributes
    ----------
    encoder : TransformerEncoder
    decoder : TransformerDecoder

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> model = nn.Transformer(8, 2, 1, 1, 16)
    >>> src, tgt = np.zeros((2, 5, 8), np.float32), np.zeros((2, 3, 8), np.float32)
    >>> model(src, tgt, src_lengths=[5, 4]).shape
    (2, 3, 8)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        custom_encoder: TransformerEncoder | None = None,
        custom_decoder: TransformerDecoder | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = True,
        norm_first: bool = False,
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.d_model = d_model
        self.nhead = nhead
        sizes = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)
        options = (batch_first, norm_first, bias)
        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*sizes, *options, rng=rng),
            num_encoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias),
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*sizes, *options, rng=rng),
            num_decoder_layers,
            LayerNorm(d_model, layer_norm_eps, bias=bias),
        )
        # As copies of one layer all would begin with its weights; here each layer has its own.
        for stack, custom in ((self.encoder, custom_encoder), (self.decoder, custom_decoder)):
            for _, parameter in stack.named_parameters() if custom is None else ():
                if len(parameter.shape) == 2:
                    parameter.draw_from(partial(uniform, bound=xavier_bound(*parameter.shape)), rng)

    def __call__(
        self,
        src: ArrayLike,
        tgt: ArrayLike,
        *,
        src_mask: NDArray[np.bool_] | None = None,
        src_lengths: ArrayLike | None = None,
        causal: bool = True,
        mask: NDArray[np.bool_] | None = None,
        tgt_lengths: ArrayLike | None = None,
        memory_mask: NDArray[np.bool_] | None = None,
        memory_lengths: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Encode the source, then decode the target.

        Parameters
        ----------
        src : (B, Ss, E), (1, Ss, E) or (Ss, E)
            One source for each target, or one for all of them.
        tgt : (B, S, E) or (S, E)
        src_mask : bool, broadcastable to (B, H, Ss, Ss), optional
            For the encoder's self-attention; True may attend.
        src_lengths : (B,) integers, optional
            Only so many tokens of each source are valid.
        causal
            Each target token attends only to itself and those before it. Default True.
        mask : bool, broadcastable to (B, H, S, S), optional
            For the decoder's self-attention; True may attend. It restricts further what `causal` allows.
        tgt_lengths : (B,) integers, optional
            Only so many tokens of each target are valid; the results of the others mean nothing.
        memory_mask : bool, broadcastable to (B, H, S, Ss), optional
            For cross-attention; True may attend.
        memory_lengths : (B,) integers, optional
            Only so many encoded tokens are seen by the decoder. Default: `src_lengths`, since what the
            encoder made of padding means nothing.

        Returns
        -------
        ndarray of the shape of `tgt`
            Valid tokens have the bits that their pair of sequences has alone, without padding.

        Raises
        ------
        TypeError, ValueError
            For arrays that do not fit the layer or one another.
        """
        src, tgt = as_array("Transformer: src", src), as_array("Transformer: tgt", tgt)
        check_tokens("Transformer", "src", src, self.d_model)
        check_tokens("Transformer", "tgt", tgt, self.d_model)
        batch, length = src.shape[:-2], src.shape[-2]
        if src.ndim > tgt.ndim or batch not in ((), (1,), tgt.shape[:-2]):
            raise ValueError(
                f"Transformer: src of shape {src.shape} does not go with tgt of shape {tgt.shape}"
            )
        src_lengths = check_lengths("Transformer", "src_lengths", src_lengths, batch, length)
        check_mask("Transformer", "src_mask", src_mask, (*batch, self.nhead, length, length))
        memory = self.encoder(src, mask=src_mask, key_lengths=src_lengths)
        if memory_lengths is None and src_lengths is not None:
            memory_lengths = np.broadcast_to(src_lengths, tgt.shape[:-2])
        return self.decoder(
            tgt,
            memory,
            causal=causal,
            mask=mask,
            tgt_lengths=tgt_lengths,
            memory_mask=memory_mask,
            memory_lengths=memory_lengths,
        )
