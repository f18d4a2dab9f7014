"""The one state machine behind every ``open_writer``: open, then closed or aborted.

Owns: the order of calls and what misuse raises. Must not know: where bytes go; a ``Sink`` does that.

Guarantees:
- exactly one of ``publish`` and ``discard`` is called on the sink, once
- a ``write`` or ``publish`` that fails discards at once: a writer that failed can publish nothing later
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from s3dlio.errors import ClosedError, S3dlioError
from s3dlio.storage.arguments import payload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from s3dlio.storage.protocol import BufferLike, ObjectMeta

__all__ = ["Sink", "SinkWriter"]


class Sink(Protocol):
    """Where a writer's bytes go until they are published or dropped."""

    def write(self, data: bytes | pa.Buffer) -> None:
        """Take ``data``. The caller may change the memory of a buffer once this returns; bytes never change."""

    def publish(self) -> ObjectMeta:
        """Make the object visible, whole."""

    def discard(self) -> None:
        """Drop everything. Called after a failed ``write`` or ``publish`` too."""


class SinkWriter:
    """An ``ObjectWriter`` over a sink. For one thread at a time.

    Args:
        uri: of the object, for errors.
        sink: takes the bytes; this writer owns it.
    """

    def __init__(self, uri: str, sink: Sink) -> None:
        self._uri = uri
        self._sink = sink
        self._result: ObjectMeta | None = None
        self._dropped = False

    def write(self, data: BufferLike) -> int:
        """Append ``data``, which may be reused once the call returns; returns its length in bytes."""
        self._check("write")
        view = payload(data, "write", self._uri)
        with self._dropping():
            self._sink.write(data if isinstance(data, bytes) else view)
        return int(view.size)

    def close(self) -> ObjectMeta:
        """Publish the object. A second call returns the same result. After ``abort``: ClosedError."""
        if self._result is None:
            self._check("close")
            with self._dropping():
                self._result = self._sink.publish()
            assert self._result is not None
        return self._result

    def abort(self) -> None:
        """Drop what was written. Does nothing after ``close`` or a first ``abort``."""
        if self._result is None and not self._dropped:
            self._dropped = True
            self._sink.discard()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        """Discard if the block fails; a discard that fails too is a note on the first error."""
        try:
            yield
        except BaseException as error:
            try:
                self.abort()
            except S3dlioError as second:
                error.add_note(str(second))
            raise

    def _check(self, operation: str) -> None:
        if self._dropped or self._result is not None:
            found = "aborted" if self._dropped else "closed"
            raise ClosedError(f"{operation} {self._uri}: the writer is {found}, expected an open one. Open another.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._dropped:
            self.close()
        else:
            self.abort()
