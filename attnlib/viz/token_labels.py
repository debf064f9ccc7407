"""Tokens as people can read them: what is invisible, or would turn its neighbours around, gets a sign."""

from __future__ import annotations

import unicodedata

__all__ = ["token_label"]

_SIGNS = {" ": "·", "\n": "↵", "\t": "⇥", "\x7f": "␡"}

# Joiners: within a token they shape the characters beside them (in emoji, Persian or Hindi) and stay.
_JOINERS = "\u200c\u200d"


def token_label(token: str) -> str:
    r"""Return what to show for a token.

    Spaces become ``·``, line ends ``↵``, tabs ``⇥``, other control characters their pictures (``␀``), and
    what else has no shape of its own (direction marks, byte-order marks, half of a surrogate pair) its
    number, such as ``⟨U+202E⟩``. A token of nothing becomes ``∅``.

    Raises
    ------
    TypeError
        If `token` is no str.

    Examples
    --------
    >>> from attnlib.viz.token_labels import token_label
    >>> [token_label(token) for token in (" street", "##ing", "\n", "\u202e", "")]
    ['·street', '##ing', '↵', '⟨U+202E⟩', '∅']
    """
    if not isinstance(token, str):
        raise TypeError(f"token_label: token must be a str, got {type(token).__name__}")
    if not token:
        return "∅"
    if all(character in _JOINERS for character in token):
        return "".join(_number(character) for character in token)
    return "".join(_visible(character) for character in token)


def _visible(character: str) -> str:
    if character in _SIGNS:
        return _SIGNS[character]
    if character < " ":
        return chr(0x2400 + ord(character))
    invisible = unicodedata.category(character) in ("Cc", "Cf", "Cn", "Cs", "Zl", "Zp", "Zs")
    return _number(character) if invisible and character not in _JOINERS else character


def _number(character: str) -> str:
    return f"⟨U+{ord(character):04X}⟩"
