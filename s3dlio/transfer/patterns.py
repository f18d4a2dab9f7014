"""Shell patterns over keys: ``*``, ``?`` and ``[...]`` inside a segment, ``**`` across any number of them.

Pure. Must not know: stores. A pattern matches names that begin with a dot, too: keys have no hidden ones.
"""

from __future__ import annotations

import fnmatch
import re

__all__ = ["is_pattern", "matcher", "split_pattern"]

_MAGIC = re.compile(r"[*?\[]")


def is_pattern(key: str) -> bool:
    """Whether ``key`` has characters that a shell would expand."""
    return _MAGIC.search(key) is not None


def split_pattern(key: str) -> tuple[str, str]:
    """The directory before the first segment with such a character, and the rest: ("a/b", "*.npz")."""
    segments = key.split("/")
    fixed = next((at for at, segment in enumerate(segments) if is_pattern(segment)), len(segments) - 1)
    return "/".join(segments[:fixed]), "/".join(segments[fixed:])


def matcher(pattern: str) -> re.Pattern[str]:
    """The expression whose ``fullmatch`` takes the paths that ``pattern`` names.

    ``**`` as a whole segment stands for no, one or many segments; elsewhere it is ``*``.
    """
    segments = pattern.split("/")
    text = ""
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == "**":
            text += ".*" if last else "(?:[^/]+/)*"
        else:
            text += _segment(segment) + ("" if last else "/")
    return re.compile(text, re.DOTALL)


def _segment(segment: str) -> str:
    """As ``fnmatch``, but "*", "?" and classes match no slash."""
    text = ""
    for piece in re.split(r"(\*+|\?|\[!?\]?[^\]]*\])", segment):
        if piece.startswith("*"):
            text += "[^/]*"
        elif piece == "?":
            text += "[^/]"
        elif piece.startswith("[") and piece.endswith("]") and len(piece) > 2:
            text += "(?!/)" + re.sub(r"\\Z$|\\z$", "", fnmatch.translate(piece))
        else:
            text += re.escape(piece)
    return text
