"""What a format is: bytes in, arrays out.

A format knows nothing of stores, keys or requests: it is given the bytes of one object and answers with
arrays. Only the caller knows the object's URI and puts it into the errors that leave it.

Guarantees, for every format (``s3dlio.testing.FormatSuite`` checks them):
- arrays are read-only, also where the buffer is not, and share the buffer's memory where the format allows
- an array keeps the memory that it shows alive; nothing has to be closed or released
- bytes that do not decode are a FormatError, never another exception and never garbage
- no input makes ``decode`` allocate more than the arrays that its bytes really hold
- nothing is executed and nothing is unpickled
- ``decode`` may be called on one instance from any number of threads at once; instances pickle
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa

    from s3dlio.arrays import Sample

__all__ = ["Format"]


@runtime_checkable
class Format(Protocol):
    """The decoder of objects that hold one sample. See the module for what all of them guarantee.

    Formats with many samples in an object will add a verb that lists the samples' extents; ``decode`` stays
    the decoder of one extent, so what is written against this protocol keeps working.
    """

    @property
    def name(self) -> str:
        """What users call it, e.g. ``"npz"``. Lower case."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Ends of keys that mean this format, lower case with their dot; empty if no key does."""

    def decode(self, buffer: pa.Buffer) -> Sample:
        """The sample that ``buffer`` holds, which is exactly one object (or one sample's extent).

        Field names map to arrays in the order in which the object holds them.

        Args:
            buffer: an Arrow buffer, or other contiguous bytes of one dimension with the buffer protocol. It
                must not change while an array lives.

        Raises:
            FormatError: truncated, corrupt or another format; ``offset`` is where. A retry does not help.
        """
