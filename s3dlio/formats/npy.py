"""NPY: one NumPy array in an object."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from s3dlio.errors import FormatError
from s3dlio.formats.npy_header import Layout, header_size, parse_header

if TYPE_CHECKING:
    import pyarrow as pa

    from s3dlio.arrays import Sample

__all__ = ["Layouts", "NpyFormat", "decode_npy"]

Layouts: TypeAlias = dict[bytes, Layout]
"""Headers seen before. Dict operations are atomic, so threads share one without a lock."""

# A data set has few distinct headers; parsing one costs ten times the rest of a small decode. 128 headers
# of 1 KiB bound the memory; a cache that is full starts anew rather than keeping the first it saw.
_MAX_LAYOUTS = 128
_MAX_CACHED_HEADER_BYTES = 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NpyFormat:
    """``{"data": array}`` of an object that ``numpy.save`` wrote, as a view of the object's bytes.

    Type, byte order and Fortran order are the file's; structured arrays keep their fields. The view is
    aligned where the buffer is (NumPy pads headers to 64 bytes). Arrays of Python objects are refused: they
    are pickles. NPY has no checksum, so a flipped bit in the numbers goes unseen; NPZ has one.
    """

    name: ClassVar[str] = "npy"
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)

    _layouts: Layouts = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def decode(self, buffer: pa.Buffer) -> Sample:
        """The array in ``buffer``, which must be one NPY and nothing after it.

        Raises:
            FormatError: not an NPY, truncated, bytes left over, or an array of Python objects.
        """
        view = memoryview(buffer).toreadonly()
        return {"data": decode_npy(view, 0, view.nbytes, self._layouts)}

    def __reduce__(self) -> tuple[type[NpyFormat], tuple[()]]:
        """Pickle without the cache."""
        return NpyFormat, ()


def decode_npy(view: memoryview, start: int, end: int, layouts: Layouts) -> np.ndarray[Any, Any]:
    """The array of the NPY that is bytes [start, end) of ``view``, as a view of it.

    Args:
        view: read-only bytes, contiguous, of one dimension.
        start: where the magic stands.
        end: one past the last byte of the array, exactly.
        layouts: headers parsed before; grows, within bounds.

    Raises:
        FormatError: these bytes are not exactly one NPY; ``offset`` counts from the start of ``view``.
    """
    data = start + header_size(bytes(view[start : min(start + 12, end)]), end - start, start)
    header = bytes(view[start:data])
    layout = layouts.get(header)
    if layout is None:
        layout = parse_header(header, start)
        if len(header) <= _MAX_CACHED_HEADER_BYTES:
            if len(layouts) >= _MAX_LAYOUTS:
                layouts.clear()
            layouts[header] = layout
    if end - data != layout.data_bytes:
        raise FormatError(
            f"decode npy at byte {data}: {end - data} bytes of data, expected {layout.data_bytes} for shape "
            f"{layout.shape} of {layout.dtype}. The object is truncated or corrupt; write it again.",
            offset=min(end, data + layout.data_bytes),
        )
    return np.ndarray(layout.shape, layout.dtype, view, data, None, layout.order)
