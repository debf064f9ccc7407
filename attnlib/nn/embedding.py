"""A table of vectors, looked up by number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import _core
from attnlib.nn.initialisers import normal
from attnlib.nn.module import ArrayParameter, Module, check_size

__all__ = ["Embedding"]


class Embedding(Module):
    """Look up rows of a table.

    Parameters
    ----------
    num_embeddings, embedding_dim
        Rows N and columns D of the table.
    padding_idx
        A row that starts as zeros; negative counts from the end. It matters only to a table that is not
        loaded.
    rng
        Draw the table from this generator, now. By default it is drawn when first used, unless
        `load_state_dict` brings it. It is standard normal, as in PyTorch.

    Attributes
    ----------
    weight : (N, D)

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.Embedding(3, 2)
    >>> layer.load_state_dict({"weight": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])})
    >>> layer([2, 0])
    array([[4., 5.],
           [0., 1.]])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_size("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ValueError(
                    f"Embedding: padding_idx {padding_idx} is outside a table of {num_embeddings} rows"
                )
            padding_idx %= num_embeddings
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx
        self.weight = ArrayParameter((num_embeddings, embedding_dim), self._initialise, rng)

    def _initialise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
        table = normal(rng, shape)
        if self.padding_idx is not None:
            table[self.padding_idx] = 0
        return table

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Look up rows.

        Parameters
        ----------
        x : (...) integers from 0 to N - 1

        Returns
        -------
        (..., D) ndarray
            In the dtype of the table.

        Raises
        ------
        TypeError
            If `x` does not hold integers.
        ValueError
            If a number is outside the table.
        """
        # Natively, though nothing is computed: between two tokens, weights drive the code of several NumPy
        # functions out of the caches.
        return _core.embedding(x, self.weight.value)
