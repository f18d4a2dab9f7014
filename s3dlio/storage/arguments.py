"""Checks of what callers pass to a store, made before any request leaves.

Owns: the rules for keys, prefixes, ranges and buffers, the same for every store.
Must not know: engines and what they do with the arguments.

A key is a relative path: segments joined by "/", none of them empty, "." or "..", without control characters,
because the engines below disagree about such keys (one drops segments, one refuses them, one writes elsewhere).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from s3dlio.errors import NotFoundError, OptionError
from s3dlio.uri import CONTROL, shown

if TYPE_CHECKING:
    from s3dlio.storage.protocol import BufferLike

__all__ = ["check_key", "check_mode", "check_range", "check_size_hint", "directory", "payload", "target"]

_REFUSED = frozenset({"", ".", ".."})

_FIELD_NAMES = re.compile(":[^:]*:")
"""In the format of a buffer of structures."""


def check_key(key: str, operation: str, uri: str, *, reading: bool = True) -> str:
    """Return ``key`` if it can name an object.

    Raises:
        NotFoundError: reading a key that ends in "/": it names a directory, which is never an object.
        OptionError: any other key that no object can have, and a directory's name when writing.
    """
    if reading and len(key) > 1 and key.endswith("/") and not _REFUSED.intersection(key[:-1].split("/")):
        raise NotFoundError(
            f"{operation} {uri}: the key ends in '/', expected an object. List it as a prefix instead.",
            uri=uri,
            operation=operation,
            attempts=0,
        )
    if _REFUSED.intersection(key.split("/")) or CONTROL.search(key):
        raise OptionError(
            f"{operation} {uri!r}: got the key {key!r}, expected path segments that are not empty, '.' or '..', "
            "without control characters. Rename the object.",
            field="key",
        )
    return key


def directory(prefix: str, uri: str) -> str:
    """The prefix as a directory: empty for the whole container, else ending in exactly one "/"."""
    base = prefix.rstrip("/")
    if not base:
        return ""
    return check_key(base, "list", uri) + "/"


def check_mode(mode: str, uri: str) -> None:
    """Raise OptionError for another mode than those of ``PutMode``: a misspelled "create" must not overwrite."""
    if mode not in ("overwrite", "create"):
        raise OptionError(f"put {shown(uri)}: mode is {mode!r}, expected 'overwrite' or 'create'.", field="mode")


def check_range(start: int, end: int, uri: str) -> None:
    """Raise OptionError unless 0 <= start <= end."""
    if not 0 <= start <= end:
        raise OptionError(
            f"get_range {shown(uri)} at [{start}, {end}): got a backward or negative range, "
            "expected 0 <= start <= end.",
            field="start",
        )


def check_size_hint(size_hint: int | None, uri: str, *, most: int | None = None) -> None:
    """Raise OptionError unless ``size_hint`` is None or a number of bytes from 0 to ``most``."""
    if size_hint is not None and (size_hint < 0 or (most is not None and size_hint > most)):
        expected = ">= 0" if most is None else f"0 to {most}"
        raise OptionError(
            f"open_writer {shown(uri)}: got size_hint={size_hint}, expected {expected} bytes. Leave it out if unknown.",
            field="size_hint",
        )


class _NoBufferError(OptionError, TypeError):
    """What is no bytes at all. A TypeError, too: NumPy and others find out by it whether a file takes text."""


def payload(data: BufferLike, operation: str, uri: str) -> pa.Buffer:
    """``data`` as an Arrow buffer over the same memory.

    Raises:
        OptionError: no buffer protocol, memory that is not contiguous in C order, or Python objects.
    """
    if isinstance(data, pa.Buffer):
        return data
    try:
        buffer = pa.py_buffer(data)
    except (TypeError, ValueError, BufferError) as error:
        kind = _NoBufferError if isinstance(error, TypeError) else OptionError
        raise kind(
            f"{operation} {shown(uri)}: got {type(data).__name__} ({error}), expected contiguous bytes. "
            "Pass bytes, a memoryview, a contiguous NumPy array or a pyarrow.Buffer.",
            field="data",
        ) from error
    found = _refused_order(data)
    if found:
        raise OptionError(
            f"{operation} {shown(uri)}: got {type(data).__name__} {found}, expected contiguous bytes in C order. "
            "Pass numpy.ascontiguousarray(...) of numbers.",
            field="data",
        )
    return buffer


def _refused_order(data: object) -> str:
    """Why the memory of ``data`` is not what its elements are one after the other; empty if it is."""
    try:
        layout: Any = memoryview(cast("bytes", data))
    except (TypeError, ValueError, BufferError):
        layout = getattr(data, "flags", None)  # NumPy's, of a type that a memoryview has no letter for
    else:
        if "O" in _FIELD_NAMES.sub("", layout.format):
            return "of Python objects, whose memory holds their addresses"
    return "" if getattr(layout, "c_contiguous", True) else "in Fortran order"


def target(buffer: BufferLike, uri: str) -> memoryview:
    """The writable bytes of ``buffer``, which ``get_into`` fills.

    Raises:
        OptionError: not contiguous, or read-only.
    """
    view = memoryview(payload(buffer, "get_into", uri))
    if view.readonly:
        raise OptionError(
            f"get_into {shown(uri)}: got read-only memory, expected a writable buffer. "
            "Pass a bytearray or a NumPy array.",
            field="buffer",
        )
    return view.cast("B")
