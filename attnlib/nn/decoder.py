"""The decoder of the Transformer (Vaswani et al., 2017): it writes one sequence while it reads another.

Letters: B batch, S target tokens, Sm memory tokens, E d_model.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array, optional_array
from attnlib.nn.decoder_layer import TransformerDecoderLayer
from attnlib.nn.decoder_past import DecoderPast
from attnlib.nn.kv_cache import KVCache
from attnlib.nn.module import Module, check_layers, check_size, in_native_order
from attnlib.nn.normalization import LayerNorm, RMSNorm
from attnlib.nn.one_call import decode_in_one_call
from attnlib.nn.sublayers import check_lengths

__all__ = ["TransformerDecoder"]


class TransformerDecoder(Module):
    """A stack of decoder layers, all of which read the same memory.

    Parameters
    ----------
    decoder_layer
        The model for all layers: each is a copy of it, with its parameters if it has any yet.
    num_layers
        How many.
    norm
        Applied after the last layer. Default None.

    Attributes
    ----------
    layers : list of TransformerDecoderLayer
    norm : LayerNorm, RMSNorm or None

    Raises
    ------
    TypeError, ValueError
        If the layer or the norm is none, or `num_layers` no number of layers.

    Examples
    --------
    Two targets of 3 and 2 tokens, a source of 5 for both:

    >>> import numpy as np
    >>> from attnlib import nn
    >>> decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2)
    >>> decoder(np.zeros((2, 3, 8)), np.zeros((1, 5, 8)), tgt_lengths=[3, 2]).shape
    (2, 3, 8)
    """

    def __init__(
        self,
        decoder_layer: TransformerDecoderLayer,
        num_layers: int,
        norm: LayerNorm | RMSNorm | None = None,
    ) -> None:
        check_size("TransformerDecoder", num_layers=num_layers)
        check_layers(
            "TransformerDecoder", decoder_layer=decoder_layer, **({} if norm is None else {"norm": norm})
        )
        self.layers = [copy.deepcopy(decoder_layer) for _ in range(num_layers)]
        self.norm = norm

    def begin(
        self, memory: ArrayLike, memory_lengths: ArrayLike | None = None, *, capacity: int = 16
    ) -> DecoderPast:
        """Make the cache that step-by-step decoding starts from: the memory is projected now, and only once.

        Parameters
        ----------
        memory : (B, Sm, E)
        memory_lengths : (B,) integers, optional
            Only so many tokens of each memory are valid.
        capacity
            Target tokens for which there is room at first. Default 16.

        Raises
        ------
        TypeError, ValueError
            For arrays that do not fit the decoder or one another.

        Examples
        --------
        >>> import numpy as np
        >>> from attnlib import nn
        >>> decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2)
        >>> rng = np.random.default_rng(0)
        >>> tgt, memory = (rng.standard_normal((1, n, 8)).astype(np.float32) for n in (3, 5))
        >>> cache = decoder.begin(memory)
        >>> steps = [decoder(tgt[:, [i]], cache=cache) for i in range(3)]
        >>> bool(np.allclose(np.concatenate(steps, axis=1), decoder(tgt, memory), atol=1e-6))
        True
        """
        name = "TransformerDecoder.begin"
        read = as_array(f"{name}: memory", memory)
        if read.ndim != 3:
            raise ValueError(f"{name}: memory has shape {read.shape}, expected (B, Sm, E)")
        batch, places = read.shape[:2]
        lengths = check_lengths(name, "memory_lengths", memory_lengths, (batch,), places)
        pairs = [layer.multihead_attn.project_memory(read) for layer in self.layers]
        dtype = pairs[0][0].dtype if pairs else np.float32
        heads = pairs[0][0].shape[1::2] if pairs else (0, 0)
        kept = KVCache(len(pairs), batch, *heads, capacity=places, dtype=dtype)
        for index, pair in enumerate(pairs):
            kept.append(index, *pair, new_lengths=lengths)
        return DecoderPast(KVCache(len(pairs), batch, *heads, capacity=capacity, dtype=dtype), kept)

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
    ) -> NDArray[Any]:
        """Run all layers; parameters, result and errors as for `TransformerDecoderLayer`.

        `cache` is what `begin` has made, or what earlier calls have made of that. If the call raises, an
        interrupt included, all its layers are as they were before, also where tokens had been evicted; only
        an interrupt that comes as the call returns finds the whole step taken.
        """
        if cache is not None and cache.num_layers != len(self.layers):
            raise ValueError(
                f"TransformerDecoder: cache has {cache.num_layers} layers, the decoder {len(self.layers)}"
            )
        x = in_native_order(as_array("TransformerDecoder: tgt", tgt))
        memory = optional_array("TransformerDecoder: memory", memory)
        nothing_else = (memory, mask, bias, tgt_lengths, memory_mask, memory_lengths)
        with nullcontext() if cache is None else cache.target.undone_on_error():
            if cache is not None and causal and all(other is None for other in nothing_else):
                done = self._step_in_one_call(x, cache)
                if done is not None:
                    return done if self.norm is None else self.norm(done)
            for index, layer in enumerate(self.layers):
                x = layer(
                    x,
                    memory,
                    causal=causal,
                    mask=mask,
                    bias=bias,
                    tgt_lengths=tgt_lengths,
                    memory_mask=memory_mask,
                    memory_lengths=memory_lengths,
                    cache=cache,
                    index=index,
                )
            return x if self.norm is None else self.norm(x)

    def _step_in_one_call(self, x: NDArray[Any], cache: DecoderPast) -> NDArray[Any] | None:
        """Run layers of the usual class in one native call; None if each has to be called."""
        if any(type(layer) is not TransformerDecoderLayer for layer in self.layers):
            return None
        return decode_in_one_call(self.layers, x, cache)
