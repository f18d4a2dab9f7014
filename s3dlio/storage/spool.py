"""Bytes put aside until they are sent as one object: in memory, from a limit on in a temporary file.

For engines that cannot abort an upload: nothing is sent before all of it is known.
"""

from __future__ import annotations

import io
import mmap
import tempfile
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from typing import IO

__all__ = ["Spool"]

_MEMORY_BYTES = 64 << 20
"""Most files stay in memory; a checkpoint shard goes to disk instead of doubling the job's memory."""


class Spool:
    """An append-only store for one object's bytes. Whoever made it closes it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._size = 0
        self._on_disk = False

    def write(self, data: bytes | pa.Buffer) -> None:
        """Append a copy of ``data``."""
        view = memoryview(data).cast("B")
        if not self._on_disk and self._size + len(view) > _MEMORY_BYTES:
            before = self._file
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
            self._file.write(before.getbuffer())  # type: ignore[attr-defined] # it is the BytesIO of __init__
            self._on_disk = True
        self._file.write(view)
        self._size += len(view)

    def read(self) -> pa.Buffer:
        """All of it; a file is mapped, so that sending it takes no memory. Valid until ``close``."""
        if not self._on_disk:
            return pa.py_buffer(self._file.getvalue())  # type: ignore[attr-defined] # as above
        self._file.flush()
        return pa.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Drop the bytes. Idempotent."""
        self._file.close()
