"""The one state machine behind every ``open_writer``: open, then closed or aborted.

Owns: the order of calls, what misuse raises, the checksum. Must not know: where bytes go; a ``Sink`` does that.

Guarantees:
- exactly one of ``publish`` and ``discard`` is called on the sink, once; ``discard`` also after a failed call
- a call that fails discards at once: a writer that failed can publish nothing later
- an error that ends the block, Ctrl-C too, is what comes out of it; that discarding failed as well is a note on it
- in a forked child it refuses every call, and touches nothing: what it has belongs to the parent
- a writer that is dropped while it is open warns (ResourceWarning): nothing is published, but an upload that was
  begun stays on the server until somebody aborts it
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import warnings
from typing import TYPE_CHECKING, Protocol

import google_crc32c

from s3dlio.errors import ClosedError, S3dlioError
from s3dlio.storage.arguments import payload
from s3dlio.storage.protocol import WriteResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from s3dlio.storage.protocol import BufferLike, ObjectMeta

__all__ = ["Sink", "SinkWriter", "crc32c_text"]


class Sink(Protocol):
    """Where a writer's bytes go until they are published or dropped."""

    @property
    def parts(self) -> int:
        """Pieces that the object was sent in; asked after ``publish``."""

    def write(self, data: bytes | pa.Buffer) -> None:
        """Take ``data``. The caller may change the memory of a buffer once this returns; bytes never change."""

    def flush(self) -> None:
        """Pass on what can be passed on now."""

    def publish(self) -> ObjectMeta:
        """Make the object visible, whole. A sink over another writer returns that one's ``WriteResult``."""

    def discard(self) -> None:
        """Drop everything. Called after a failed call of another method too."""


class SinkWriter:
    """An ``ObjectWriter`` over a sink. For one thread at a time.

    Args:
        uri: of the object, for errors.
        sink: takes the bytes; this writer owns it.
        checksummed: calculate the CRC-32C of what is written, about 0.1 s a GB. Not for a sink over another writer.
    """

    def __init__(self, uri: str, sink: Sink, *, checksummed: bool = True) -> None:
        self._uri = uri
        self._sink = sink
        self._crc = 0
        self._checksummed = checksummed
        self._result: WriteResult | None = None
        self._dropped = False
        self._pid = os.getpid()

    def write(self, data: BufferLike) -> int:
        """As ``ObjectWriter.write``."""
        self._check("write")
        view = payload(data, "write", self._uri)
        with self._dropping():
            self._sink.write(data if isinstance(data, bytes) else view)
            if self._checksummed:
                self._crc = google_crc32c.extend(self._crc, view)
        return int(view.size)

    def flush(self) -> None:
        """As ``ObjectWriter.flush``."""
        self._check("flush")
        with self._dropping():
            self._sink.flush()

    def close(self) -> WriteResult:
        """As ``ObjectWriter.close``."""
        if self._result is None:
            self._check("close")
            with self._dropping():
                found = self._sink.publish()
                self._result = found if isinstance(found, WriteResult) else self._described(found)
        return self._result

    def abort(self) -> None:
        """As ``ObjectWriter.abort``."""
        if self._result is None and not self._dropped:
            self._dropped = True
            if self._pid == os.getpid():
                self._sink.discard()

    def _described(self, meta: ObjectMeta) -> WriteResult:
        fields = {field.name: getattr(meta, field.name) for field in dataclasses.fields(meta)}
        return WriteResult(**fields, parts=self._sink.parts, checksum=crc32c_text(self._crc))

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        """Discard if the block fails."""
        try:
            yield
        except BaseException as error:
            self._abort_after(error)
            raise

    def _abort_after(self, error: BaseException) -> None:
        """Discard; if that fails too, it is a note on ``error``."""
        try:
            self.abort()
        except S3dlioError as second:
            error.add_note(str(second))

    def _check(self, operation: str) -> None:
        if self._pid != os.getpid():
            raise ClosedError(
                f"{operation} {self._uri}: the writer is used in a forked process, expected its own. Open another."
            )
        if self._dropped or self._result is not None:
            found = "aborted" if self._dropped else "closed"
            raise ClosedError(f"{operation} {self._uri}: the writer is {found}, expected an open one. Open another.")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(f"pickle {self._uri}: a writer belongs to its process. Open another one there.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abort_after(error)
        elif not self._dropped:
            self.close()

    def __del__(self) -> None:
        if self._result is None and not self._dropped and self._pid == os.getpid():
            warnings.warn(
                f"The writer of {self._uri} was dropped, neither closed nor aborted: nothing is published. "
                "Use it in a with block.",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


def crc32c_text(value: int) -> str:
    """The checksum as ``WriteResult`` shows it."""
    return f"crc32c:{value:08x}"
