"""Cross-attention drawn in the terminal: a row for each word written, a column for each word read."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["draw_attention"]

_BLOCKS = " ░▒▓█"
_LETTERS = " .:*#"  # where the terminal has no blocks


def draw_attention(
    source: Sequence[str], target: Sequence[str], weights: ArrayLike, *, encoding: str = "utf-8"
) -> str:
    """Draw attention weights as shades, from blank for 0 to full for 1.

    Parameters
    ----------
    source, target
        The words over the columns and before the rows.
    weights : (len(target), len(source))
        From 0 to 1.
    encoding
        Of the terminal. Where it has no blocks, punctuation is drawn, and letters that it lacks become
        question marks. Default UTF-8.

    Returns
    -------
    str
        Lines, without a newline at the end.

    Examples
    --------
    >>> print(draw_attention(["la", "pomme"], ["the", "apple"], [[0.9, 0.1], [0.3, 0.7]]))
           la  pomme
    the    ██
    apple  ░░  ▓▓▓▓▓
    """
    shades = _BLOCKS if _has_blocks(encoding) else _LETTERS
    levels = np.rint(np.clip(np.asarray(weights, np.float64), 0, 1) * (len(shades) - 1)).astype(int)
    margin = max(map(len, target), default=0)
    lines = [" " * margin + "".join(f"  {word}" for word in source)]
    for word, row in zip(target, levels.tolist(), strict=True):
        cells = (shades[level] * len(column) for column, level in zip(source, row, strict=True))
        lines.append((word.ljust(margin) + "".join(f"  {cell}" for cell in cells)).rstrip())
    return "\n".join(lines).encode(encoding, "replace").decode(encoding)


def _has_blocks(encoding: str) -> bool:
    try:
        codecs.encode(_BLOCKS, encoding)
    except UnicodeEncodeError:
        return False
    return True
