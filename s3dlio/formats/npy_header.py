"""Read NPY headers: versions 1.0, 2.0 and 3.0.

Pure: header bytes in, layout out. Nothing is evaluated and pickled (object) arrays are refused.

Source: NEP 1 and the docstring of ``numpy.lib.format``.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal, NamedTuple, TypeGuard

import numpy as np

from s3dlio.errors import FormatError
from s3dlio.formats.literal import parse_literal

__all__ = ["MAGIC", "MAX_HEADER_BYTES", "Layout", "header_size", "parse_header"]

MAGIC = b"\x93NUMPY"

MAX_HEADER_BYTES = 1 << 20
"""No header of any use is longer (20,000 named fields fit); a longer one is a corrupt length."""

# What ``dtype.str`` writes and no more: ``np.dtype`` also takes "f4,f4", names of types, and texts that divide
# by zero and end the process ("M8[s/0]" in NumPy 2.4; hence no multiplier of zero either).
_TYPE = re.compile(
    r"[<>=|]?(?:\?|[biufcSUV][0-9]{1,10}|O8?|[mM]8(?:\[(?:[1-9][0-9]{0,9})?(?:[YMWDhms]|[munpfa]s)\])?)", re.ASCII
)

_REWRITE = "The object is truncated, corrupt or no NPY; write it again with numpy.save."


class Layout(NamedTuple):
    """How the bytes after a header are to be viewed."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"]
    data_bytes: int


def header_size(prefix: bytes, remaining: int, offset: int) -> int:
    """How many bytes from the magic to the data, by the first 12 bytes of an NPY.

    Args:
        prefix: the first 12 bytes, fewer where the NPY is shorter.
        remaining: bytes that the NPY has, magic included.
        offset: where ``prefix`` stands in the object, for errors.

    Raises:
        FormatError: no magic, an unknown version, or a header longer than the NPY or than reason.
    """
    if not prefix.startswith(MAGIC):
        raise FormatError(
            f"decode npy at byte {offset}: starts with {prefix[:6]!r}, expected {MAGIC!r}. {_REWRITE}",
            offset=offset,
        )
    version = prefix[6:8]
    if version == b"\x01\x00":
        size = 10 + int.from_bytes(prefix[8:10], "little")
    elif version in {b"\x02\x00", b"\x03\x00"}:
        size = 12 + int.from_bytes(prefix[8:12], "little")
    else:
        found = ".".join(str(part) for part in version) or "none"
        raise FormatError(
            f"decode npy at byte {offset + 6}: version {found}, expected 1.0, 2.0 or 3.0. {_REWRITE}",
            offset=offset + 6,
        )
    limit = min(remaining, MAX_HEADER_BYTES)
    if size > limit:
        raise FormatError(
            f"decode npy at byte {offset + 8}: a header of {size} bytes, expected at most {limit}. {_REWRITE}",
            offset=offset + 8,
        )
    return size


def parse_header(header: bytes, offset: int) -> Layout:
    """The layout that ``header``, from its magic to the last byte before the data, describes.

    Raises:
        FormatError: no such header, or an array that NumPy cannot hold, or one of Python objects.
    """
    start = 10 if header[6] == 1 else 12
    try:
        layout = _layout(header[start:].decode("utf-8" if header[6] == 3 else "latin-1"))
    except ValueError as error:
        # A literal that does not parse says at which character; that is the byte, but for UTF-8 headers.
        found, at = error.args if len(error.args) == 2 else (error, 0)
        raise FormatError(
            f"decode npy at byte {offset + start + at}: {found}, expected a header with a type in 'descr', "
            f"True or False in 'fortran_order' and lengths in 'shape'. {_REWRITE}",
            offset=offset + start + at,
        ) from error
    if layout.dtype.hasobject:
        raise FormatError(
            f"decode npy at byte {offset + start}: an array of Python objects ({layout.dtype}), expected "
            "numbers, strings or dates. Such arrays are pickles, which are never read; save typed arrays.",
            offset=offset + start,
        )
    return layout


def _layout(text: str) -> Layout:
    """The layout that a header's text describes. ValueError if there is none."""
    match parse_literal(text):
        case {"descr": descr, "fortran_order": bool(fortran), "shape": shape, **more} if _is_shape(shape) and not more:
            dtype = _dtype(descr)
        case _:
            raise ValueError(text.strip()[:200])
    # NumPy wants the product of the lengths that are not zero to fit. Its limit of dimensions depends on its
    # version, so an empty array asks it.
    if math.prod(length for length in shape if length) * max(dtype.itemsize, 1) > np.iinfo(np.intp).max:
        raise ValueError(f"shape {shape} of {dtype}, larger than memory can be")
    np.empty((0,) * len(shape), np.uint8)
    return Layout(shape, dtype, "F" if fortran else "C", math.prod(shape) * dtype.itemsize)


def _is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(shape, tuple) and all(type(length) is int for length in shape)


def _dtype(descr: object) -> np.dtype[Any]:
    """The dtype of a ``descr``: a type string, or a list of fields. ValueError if it is neither."""
    try:
        if isinstance(descr, str) and _TYPE.fullmatch(descr):
            return np.dtype(descr)
        if isinstance(descr, list):
            return _structured(descr)
    except (TypeError, OverflowError) as error:  # what NumPy raises for "<f3" and for huge fields
        raise ValueError(f"descr {descr!r} ({error})") from error
    raise ValueError(f"descr {descr!r}")


def _structured(fields: list[object]) -> np.dtype[Any]:
    names: list[str] = []
    titles: list[str | None] = []
    formats: list[np.dtype[Any]] = []
    offsets: list[int] = []
    itemsize = 0
    for field in fields:
        match field:
            case (label, descr):
                dtype = _dtype(descr)
            case (label, descr, shape) if _is_shape(shape):
                dtype = np.dtype((_dtype(descr), shape))
            case _:
                raise ValueError(f"field {field!r}")
        title: str | None = None
        match label:
            case str(name):
                pass
            case (str(title), str(name)):
                pass
            case _:
                raise ValueError(f"field name {label!r}")
        # Padding is written as nameless bytes: it moves the next field and is not one itself.
        if name or dtype.kind != "V" or dtype.names:
            names.append(name)
            titles.append(title)
            formats.append(dtype)
            offsets.append(itemsize)
        itemsize += dtype.itemsize
    return np.dtype({"names": names, "titles": titles, "formats": formats, "offsets": offsets, "itemsize": itemsize})
