"""Objects that are nothing but bytes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from s3dlio.arrays import Sample

__all__ = ["RawFormat"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RawFormat:
    """The object as it is: ``{"data": uint8 (size in bytes,)}``, a view. Any bytes decode, also none."""

    name: ClassVar[str] = "raw"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def decode(self, buffer: pa.Buffer) -> Sample:
        """The bytes of ``buffer`` as uint8 (size in bytes,), without a copy."""
        view = memoryview(buffer).toreadonly()
        return {"data": np.ndarray((view.nbytes,), np.uint8, view)}
