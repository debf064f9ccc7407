"""Multi-head attention with its projections (Vaswani et al., "Attention is all you need", 2017).

Letters: B batch, Sq queries, Sk keys, E embed_dim, H heads, D = E / H the size of a head, T tokens of packed
sequences.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array
from attnlib.functional import attention, attention_varlen, linear
from attnlib.nn.in_projection import InProjectionParameter
from attnlib.nn.initialisers import constant, uniform, xavier_bound
from attnlib.nn.kv_cache import KVCache
from attnlib.nn.linear import Linear
from attnlib.nn.module import ArrayParameter, Module, PackedParameter, check_size

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of several heads between an input and an output projection.

    Parameters
    ----------
    embed_dim
        Size E of queries and results.
    num_heads
        Heads H; E is a multiple of it.
    bias
        Whether the projections have biases. Default True.
    kdim, vdim
        Sizes of the last axes of keys and of values. Default E.
    dropout
        Taken for the sake of ``torch.nn`` and without effect: these layers are for inference.
    batch_first
        Only True, the default.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them. Weights of the input projection are Xavier-uniform, that of the output
        uniform in ``[-1/sqrt(E), 1/sqrt(E))``, biases zero, as in PyTorch.

    Attributes
    ----------
    in_proj_weight : (3 E, E), or None if `kdim` or `vdim` is not E
    q_proj_weight, k_proj_weight, v_proj_weight : (E, E), (E, kdim), (E, vdim), or None otherwise
    in_proj_bias : (3 E,) or None
    out_proj : Linear(E, E)

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.MultiheadAttention(8, 2)
    >>> out, weights = layer(np.ones((1, 3, 8), np.float32), causal=True, need_weights=True)
    >>> out.shape, weights[0, 0].round(2).tolist()[1]
    ((1, 3, 8), [0.5, 0.5, 0.0])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        dropout: float = 0.0,
        batch_first: bool = True,
        rng: np.random.Generator | None = None,
    ) -> None:
        kdim = embed_dim if kdim is None else kdim
        vdim = embed_dim if vdim is None else vdim
        check_size("MultiheadAttention", embed_dim=embed_dim, num_heads=num_heads, kdim=kdim, vdim=vdim)
        if num_heads == 0 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: embed_dim {embed_dim} is not a multiple of num_heads {num_heads}"
            )
        if not batch_first:
            raise ValueError("MultiheadAttention: batch_first=False is not supported; the batch comes first")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.kdim = kdim
        self.vdim = vdim
        self.in_proj_weight: InProjectionParameter | None = None
        self.q_proj_weight: PackedParameter | None = None
        self.k_proj_weight: PackedParameter | None = None
        self.v_proj_weight: PackedParameter | None = None
        if kdim == vdim == embed_dim:
            shape = (3 * embed_dim, embed_dim)
            self.in_proj_weight = InProjectionParameter(
                shape, partial(uniform, bound=xavier_bound(*shape)), rng
            )
        else:
            self.q_proj_weight, self.k_proj_weight, self.v_proj_weight = (
                PackedParameter((embed_dim, size), partial(uniform, bound=xavier_bound(embed_dim, size)), rng)
                for size in (embed_dim, kdim, vdim)
            )
        zeros = partial(constant, value=0.0)
        self.in_proj_bias = ArrayParameter((3 * embed_dim,), zeros) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, rng=rng)
        if self.out_proj.bias is not None:
            self.out_proj.bias = ArrayParameter((embed_dim,), zeros)

    @overload
    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike | None = None,
        value: ArrayLike | None = None,
        *,
        mask: NDArray[np.bool_] | None = None,
        bias: NDArray[Any] | None = None,
        causal: bool = False,
        key_lengths: ArrayLike | None = None,
        need_weights: Literal[False] = False,
        cu_seqlens: NDArray[np.integer[Any]] | None = None,
        residual: NDArray[Any] | None = None,
    ) -> NDArray[Any]: ...

    @overload
    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike | None = None,
        value: ArrayLike | None = None,
        *,
        mask: NDArray[np.bool_] | None = None,
        bias: NDArray[Any] | None = None,
        causal: bool = False,
        key_lengths: ArrayLike | None = None,
        need_weights: Literal[True],
        residual: NDArray[Any] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any]]: ...

    def __call__(
        self,
        query: ArrayLike,
        key: ArrayLike | None = None,
        value: ArrayLike | None = None,
        *,
        mask: NDArray[np.bool_] | None = None,
        bias: NDArray[Any] | None = None,
        causal: bool = False,
        key_lengths: ArrayLike | None = None,
        need_weights: bool = False,
        cu_seqlens: NDArray[np.integer[Any]] | None = None,
        residual: NDArray[Any] | None = None,
    ) -> NDArray[Any] | tuple[NDArray[Any], NDArray[Any]]:
        """Attend from `query` to `key` and `value`.

        Parameters
        ----------
        query : (B, Sq, E) or (Sq, E)
        key : (B, Sk, kdim) or (Sk, kdim), optional
            Default: `query`, self-attention.
        value : (B, Sk, vdim) or (Sk, vdim), optional
            Default: `key`.
        mask : bool, broadcastable to (B, H, Sq, Sk), optional
            True may attend.
        bias : float, broadcastable to (B, H, Sq, Sk), optional
            Added to the scores. With `cu_seqlens` it is (H, S, S), and a sequence of length L takes
            ``bias[:, :L, :L]``.
        causal
            Only keys at or before the query's own place: in self-attention (no `key`, or the same object)
            its index, otherwise counted so that the last query sees the last valid key. Default False.
        key_lengths : (B,) integers, optional
            Only so many keys of each batch entry are valid.
        need_weights
            Also return the attention weights, one matrix per head. Default False.
        cu_seqlens : (N + 1,) int32 or int64, optional
            `query` is (T, E): N sequences packed end to end, sequence n in rows ``cu_seqlens[n]`` to
            ``cu_seqlens[n + 1]``, each attending to itself. Only `bias`, `causal` and `residual` go
            with it.
        residual : like the result, optional
            Added to the result in the pass that makes it.

        Returns
        -------
        out : (B, Sq, E) or (Sq, E) ndarray
        weights : (B, H, Sq, Sk) or (H, Sq, Sk) ndarray
            If `need_weights`.

        Raises
        ------
        TypeError, ValueError
            For arrays that do not fit the layer or one another, as `attnlib.linear` and `attnlib.attention`.
        """
        # Of the objects: a list or a tensor given twice makes two arrays.
        own_keys = key is None or key is query
        query = as_array("MultiheadAttention: query", query)
        if key is None:
            if value is not None:
                raise ValueError("MultiheadAttention: value is given without key")
            key = value = query
        else:
            key = as_array("MultiheadAttention: key", key)
            value = key if value is None else as_array("MultiheadAttention: value", value)
        self._check(query, key, value)
        if cu_seqlens is not None:
            if key is not query or value is not query or query.ndim != 2:
                raise ValueError(
                    "MultiheadAttention: cu_seqlens goes with self-attention over packed tokens of shape "
                    f"(T, {self.embed_dim}), got query {query.shape}, key {key.shape}, value {value.shape}"
                )
            if mask is not None or key_lengths is not None or need_weights:
                raise ValueError(
                    "MultiheadAttention: mask, key_lengths and need_weights do not go with cu_seqlens"
                )

        heads = self._project(query, key, value)
        batch = query.shape[:-2]
        if key.shape[:-2] != batch or value.shape[:-2] != batch:
            batch = np.broadcast_shapes(batch, key.shape[:-2], value.shape[:-2])
        context = np.empty(
            (*batch, query.shape[-2], self.num_heads, self.head_dim), dtype=np.result_type(*heads)
        )
        weights: NDArray[Any] | None = None
        if cu_seqlens is not None and bias is not None:
            _attend_with_bias(heads, cu_seqlens, bias, causal, context)
        elif cu_seqlens is not None:
            attention_varlen(*heads, cu_seqlens, causal=causal, out=context)
        else:
            # The kernels read and write heads where they lie: (S, H, D) seen as (H, S, D), no copies.
            query_heads, key_heads, value_heads = (head.swapaxes(-3, -2) for head in heads)
            answer = attention(
                query_heads,
                key_heads,
                value_heads,
                mask=mask,
                bias=bias,
                causal=causal,
                # Padding after a sequence must not move its queries, as the default of `attention` would.
                query_offset=0 if causal and own_keys else None,
                key_lengths=key_lengths,
                return_weights=need_weights,
                out=context.swapaxes(-3, -2),
            )
            weights = answer[1] if need_weights else None
        out = self.out_proj(context.reshape(*context.shape[:-2], self.embed_dim), residual=residual)
        return out if weights is None else (out, weights)

    def project_memory(self, memory: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make the keys and values of `memory` (B, Sk, E), each (B, H, Sk, D), for a `KVCache`.

        Raises
        ------
        TypeError, ValueError
            For an array that does not fit the layer.
        """
        memory = as_array("MultiheadAttention.project_memory: memory", memory)
        no_query = np.empty((*memory.shape[:-2], 0, self.embed_dim), memory.dtype)
        self._check(no_query, memory, memory)
        _, keys, values = self._project(no_query, memory, memory)
        return keys.swapaxes(-3, -2), values.swapaxes(-3, -2)

    def attend_to_cache(
        self,
        query: ArrayLike,
        cache: KVCache,
        layer: int,
        *,
        append: bool,
        mask: NDArray[np.bool_] | None = None,
        bias: NDArray[Any] | None = None,
        causal: bool = False,
        residual: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Attend from `query` to the keys and values that one layer of a cache keeps.

        Parameters
        ----------
        query : (B, Sq, E)
        cache, layer
            What is kept: earlier tokens, or a memory that `project_memory` has made keys and values of.
        append
            Whether the keys and values of `query` itself are first added, which is self-attention.
        mask, bias, causal, residual
            As in a call of the layer, Sk being the greatest number of tokens kept.

        Returns
        -------
        (B, Sq, E) ndarray

        Raises
        ------
        IndexError, TypeError, ValueError
            For arrays that do not fit the layer or the cache, which is then unchanged.
        """
        query = as_array("MultiheadAttention.attend_to_cache: query", query)
        source = query if append else np.empty((*query.shape[:-2], 0, self.kdim), query.dtype)
        self._check(query, source, source)
        heads, new_keys, new_values = self._project(query, source, source)
        context = np.empty(heads.shape, heads.dtype)

        def attend(keys: NDArray[Any], values: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
            attention(
                heads.swapaxes(1, 2),
                # An int8 cache is read as float32.
                keys.astype(heads.dtype, copy=False),
                values.astype(heads.dtype, copy=False),
                mask=mask,
                bias=bias,
                causal=causal,
                window=None if cache.window is None else (cache.window - 1, None),
                key_lengths=lengths,
                out=context.swapaxes(1, 2),
            )
            return self.out_proj(context.reshape(query.shape), residual=residual)

        if append:
            return cache.add(layer, new_keys.swapaxes(1, 2), new_values.swapaxes(1, 2), attend)
        return attend(*cache.read(layer))

    def _check(self, query: NDArray[Any], key: NDArray[Any], value: NDArray[Any]) -> None:
        for name, array, size in (
            ("query", query, self.embed_dim),
            ("key", key, self.kdim),
            ("value", value, self.vdim),
        ):
            if array.ndim < 2 or array.shape[-1] != size:
                raise ValueError(
                    f"MultiheadAttention: {name} has shape {array.shape}, expected (..., S, {size})"
                )

    def _project(
        self, query: NDArray[Any], key: NDArray[Any], value: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Make heads of queries, keys and values, (..., S, H, D), views of as few products as can be."""
        sources = (query, key, value)
        if self.in_proj_weight is not None:
            pieces = self.in_proj_weight.cut(3 if value is not key else 2 if key is not query else 1)
        else:
            separate = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            pieces = tuple(weight.value for weight in separate if weight is not None)
        bias = None if self.in_proj_bias is None else self.in_proj_bias.value
        heads: list[NDArray[Any]] = []
        for piece in pieces:
            source = sources[len(heads)]
            count = piece.shape[0] // self.embed_dim if self.embed_dim else 3 // len(pieces)
            start = len(heads) * self.embed_dim
            part = None if bias is None else bias[start : start + piece.shape[0]]
            product = linear(source, piece, part)
            product = product.reshape(*product.shape[:-1], count, self.num_heads, self.head_dim)
            heads += [product[..., i, :, :] for i in range(count)]
        return heads[0], heads[1], heads[2]


def _attend_with_bias(
    heads: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    cu_seqlens: NDArray[np.integer[Any]],
    bias: NDArray[Any],
    causal: bool,
    out: NDArray[Any],
) -> None:
    """Attend within packed sequences with a bias, which `attention_varlen` does not take.

    Neighbours of equal length become one batch: a view, since they lie end to end.
    """
    offsets = np.asarray(cu_seqlens)
    lengths = np.diff(offsets)
    tokens = out.shape[0]
    if (
        offsets.ndim != 1
        or not len(offsets)
        or offsets[0] != 0
        or offsets[-1] != tokens
        or (lengths < 0).any()
    ):
        raise ValueError(f"MultiheadAttention: cu_seqlens must rise from 0 to {tokens}, got {cu_seqlens!r}")
    start = 0
    for length, group in groupby(lengths.tolist()):
        count = len(list(group))
        stop = start + count * length
        query, key, value, result = (
            array[start:stop].reshape(count, length, *array.shape[1:]).swapaxes(1, 2)
            for array in (*heads, out)
        )
        attention(query, key, value, bias=bias[..., :length, :length], causal=causal, out=result)
        start = stop
