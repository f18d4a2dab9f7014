"""Bytes put aside until they are sent as one object: in memory, from a limit on in a temporary file.

For engines that cannot abort an upload: nothing is sent before all of it is known.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import tempfile
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dlio.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from s3dlio.storage.protocol import ObjectMeta

__all__ = ["Spool", "SpoolSink", "set_aside"]

_MEMORY_BYTES = 16 << 20
"""Most files stay in memory, also those of many writers at a time; a checkpoint shard goes to disk instead of doubling
the job's memory."""


class Spool:
    """An append-only store for one object's bytes. Whoever made it closes it."""

    def __init__(self) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._size = 0
        self._on_disk = False

    def write(self, data: bytes | pa.Buffer) -> None:
        """Append a copy of ``data``.

        Raises:
            OSError: the disk with the temporary files is full, or out of order.
        """
        view = memoryview(data).cast("B")
        if not self._on_disk and self._size + len(view) > _MEMORY_BYTES:
            before = self._file
            # Unbuffered: a full disk is an error of the call that meets it, and of no later one.
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by close()
            self._on_disk = True
            self._append(before.getbuffer())  # type: ignore[attr-defined] # it is the BytesIO of __init__
        self._append(view)
        self._size += len(view)

    def read(self) -> pa.Buffer:
        """All of it; a file is mapped, so that sending it takes no memory of its own. Valid until ``close``."""
        if not self._on_disk:
            return pa.py_buffer(self._file.getvalue())  # type: ignore[attr-defined] # as above
        return pa.py_buffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Drop the bytes. Idempotent."""
        self._file.close()

    def _append(self, view: memoryview) -> None:
        rest = view
        while len(rest):
            rest = rest[self._file.write(rest) :]


class SpoolSink:
    """A writer's bytes, put aside until ``send`` sends them as one object.

    Args:
        uri: of the object, for errors.
        send: sends the buffer, all or nothing. The buffer is gone afterwards.
    """

    parts = 1

    def __init__(self, uri: str, send: Callable[[pa.Buffer], ObjectMeta]) -> None:
        self._uri = uri
        self._send = send
        self._spool = Spool()

    def write(self, data: bytes | pa.Buffer) -> None:
        """Put ``data`` aside."""
        with _translating("write", self._uri):
            self._spool.write(data)

    def flush(self) -> None:
        """Nothing is sent before ``publish``."""

    def publish(self) -> ObjectMeta:
        """Send all of it."""
        meta = self._send(self._spool.read())
        self._spool.close()
        return meta

    def discard(self) -> None:
        """Drop what was put aside."""
        self._spool.close()


def set_aside(data: pa.Buffer, operation: str, uri: str) -> pa.Buffer:
    """A read-only copy of ``data``: in memory, a large one as a map of a temporary file.

    Args:
        data: bytes that may still be changed.
        operation: what they are for, for errors.
        uri: of the object, for errors.

    Raises:
        StorageError: the disk with the temporary files is full, or out of order.
    """
    with contextlib.closing(Spool()) as spool, _translating(operation, uri):
        spool.write(data)
        return spool.read()


@contextlib.contextmanager
def _translating(operation: str, uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{operation} {uri}: a temporary file in {tempfile.gettempdir()} failed ({error.strerror}), expected room "
            "for the whole object. Free some space, or set TMPDIR to a larger disk.",
            uri=uri,
            operation=operation,
            attempts=0,
        ) from error
