"""Which place a caller means: a URI, or a path in a filesystem of the caller's own.

Must not know: stores. ``storage.open`` opens what is named here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.uri import Uri

if TYPE_CHECKING:
    import os

__all__ = ["where_in"]


def where_in(uri: str | os.PathLike[str] | Uri, filesystem: object | None) -> Uri:
    """``uri`` parsed; with a filesystem it is a path there, and only ``key`` and ``prefix`` of it say something.

    Raises:
        OptionError: an unknown scheme, or a bucket that is missing.
    """
    return Uri.parse(uri) if filesystem is None else Uri("filesystem", "", str(uri).lstrip("/"))
