"""Which format an object has: by the name the user gave, else by the key, else by its first bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.errors import OptionError
from s3dlio.formats.npy import NpyFormat
from s3dlio.formats.npy_header import MAGIC
from s3dlio.formats.npz import NpzFormat
from s3dlio.formats.protocol import Format
from s3dlio.formats.raw import RawFormat

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["format_for"]

_BY_NAME: dict[str, Callable[[], Format]] = {
    "npy": NpyFormat,
    "npz": NpzFormat,
    "raw": RawFormat,
}
_BY_SUFFIX: dict[str, Callable[[], Format]] = {
    ".npy": NpyFormat,
    ".npz": NpzFormat,
}
# No magic for NPZ: it is that of every ZIP archive, and most of those are not NPZ.
_BY_MAGIC: dict[bytes, Callable[[], Format]] = {
    MAGIC: NpyFormat,
}


def format_for(format: str | Format | None, key: str, head: bytes = b"") -> Format:
    """The format to decode the object ``key`` with.

    A new instance each time, unless one was passed in. An instance remembers the headers that it parsed, so
    ask once for a data set and keep the answer.

    Args:
        format: a name ("npy", "npz", "raw") or a Format, which win over everything; None to detect.
        key: key or URI of the object; the case of its suffix does not matter.
        head: the object's first bytes if the caller has them; they decide where the suffix says nothing.

    Returns: what was passed in or found, and RawFormat where nothing was.

    Raises:
        OptionError: there is no format of that name.
    """
    if isinstance(format, str):
        if format not in _BY_NAME:
            raise OptionError(
                f"format: got {format!r}, expected one of {', '.join(_BY_NAME)}, or None to go by the key's suffix.",
                field="format",
            )
        return _BY_NAME[format]()
    if format is not None:
        if isinstance(format, type) or not isinstance(format, Format):
            raise OptionError(
                f"format: got {format!r}, expected a name, an instance with name, suffixes and decode, or None.",
                field="format",
            )
        return format
    lowered = key.lower()
    for suffix, found in _BY_SUFFIX.items():
        if lowered.endswith(suffix):
            return found()
    for magic, found in _BY_MAGIC.items():
        if head.startswith(magic):
            return found()
    return RawFormat()
