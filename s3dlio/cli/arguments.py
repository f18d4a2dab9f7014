"""Checks of what people type that several commands share."""

from __future__ import annotations

from s3dlio.errors import OptionError
from s3dlio.uri import Uri

__all__ = ["object_uri"]


def object_uri(uri: str, operation: str) -> Uri:
    """``uri``, which must name an object.

    Raises:
        OptionError: it names a container or ends in "/".
    """
    parsed = Uri.parse(uri)
    if not parsed.key or parsed.key.endswith("/"):
        what = "directory" if parsed.key else "container"
        raise OptionError(
            f"{operation} {parsed}: the URI names a {what}, expected an object. Add its key.", field="uri"
        )
    return parsed
