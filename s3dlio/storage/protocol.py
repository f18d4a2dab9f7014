"""What a store is: a union of small verbs over keys.

A store covers one container (bucket, Azure container, the local file tree, a named memory store).
Keys are relative to the container, use "/" and never start with one.

Guarantees, for every store and engine (``s3dlio.testing.StoreSuite`` checks them):
- ranges are half-open; start == end gives zero bytes; a range past the object's end is a ShortReadError
- a short read is an error, never data
- after ``put`` or a writer's ``close`` returns, ``get`` and ``list`` see the object, whole
- a writer that is aborted, or left by an exception, publishes nothing and changes nothing
- every verb may be called from any thread at any time; every failure is a StorageError that names the URI
- every verb works in a forked child, whatever the parent did before (``storage.requests.remote``)
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self

__all__ = ["LIST_SCHEMA", "BufferLike", "BulkStore", "ObjectMeta", "ObjectWriter", "PutMode", "Store", "WriteResult"]

PutMode = Literal["overwrite", "create"]

BufferLike: TypeAlias = bytes | bytearray | memoryview | np.ndarray[Any, Any] | pa.Buffer
"""Anything contiguous that has the buffer protocol."""

LIST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.string()),
        pa.field("mtime", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of every record batch that ``Store.list`` yields. ``etag`` is null where an engine cannot list it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """What a store knows of an object without reading it."""

    key: str
    """Relative to the container."""
    size: int
    """Bytes."""
    etag: str | None
    """Opaque version mark without surrounding quotes; None where the engine has none."""
    mtime: datetime | None
    """Last modification, timezone-aware; None where unknown."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WriteResult(ObjectMeta):
    """What a writer has published."""

    parts: int
    """Pieces that the object was sent in; 1 where it went, or was handed to pyarrow, as a whole."""
    checksum: str | None
    """``"crc32c:"`` and 8 hex digits: CRC-32C of the bytes as the store has them, calculated while they were
    written. None where a store written elsewhere does not calculate it."""


@runtime_checkable
class ObjectWriter(Protocol):
    """One object being written in pieces. Nothing is visible before ``close`` returns.

    A context manager: leaving it by an exception aborts, leaving it normally closes. For one thread at a time.
    What fails on the way (a part, a full disk) is raised by the next call, at the latest by ``close``; then
    nothing is published and the writer is aborted.
    """

    def write(self, data: BufferLike) -> int:
        """Append ``data``, which may be reused once the call returns; returns its length in bytes.

        Blocks while as much is on its way as the store allows: memory is bounded, however fast data comes.
        """

    def flush(self) -> None:
        """Pass on what can be passed on before ``close``. Publishes nothing and promises nothing: only ``close`` does.

        For code that expects a file. Where data is compressed, it ends a frame, which costs some of the ratio.
        """

    def close(self) -> WriteResult:
        """Publish the object. A second call returns the same result. After ``abort``: ClosedError."""

    def abort(self) -> None:
        """Drop what was written. Does nothing after ``close`` or a first ``abort``."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """The verbs. See the module for what all of them guarantee.

    Not for ``isinstance``: up to Python 3.11 that would evaluate ``filesystem``, which connects.
    """

    @property
    def atomic_create(self) -> bool:
        """Whether ``put(mode="create")`` is decided by the server. If not, two racing writers may both succeed."""

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.FileSystem`` over the same container, whose paths are ``path(key)``."""

    def path(self, key: str) -> str:
        """The path of ``key`` in ``filesystem``."""

    def uri(self, key: str) -> str:
        """The full URI of ``key``, as errors and manifests show it."""

    def head(self, key: str) -> ObjectMeta:
        """Metadata of one object. One request.

        Raises:
            NotFoundError: there is no such object; a prefix is not an object.
        """

    def get(self, key: str) -> pa.Buffer:
        """The whole object, read-only. One request on ``native``, two on ``arrow``.

        Raises:
            NotFoundError: there is no such object.
            ShortReadError: fewer bytes came than the store announced.
        """

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """Bytes [start, end) of the object, read-only.

        Args:
            key: the object.
            start: first byte, >= 0.
            end: one past the last byte, >= start.
            etag: refuse any other version of the object.

        Raises:
            ShortReadError: the object ends before ``end``.
            PreconditionError: the object's ETag is not ``etag``.
            OptionError: start < 0 or end < start.
        """

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """Metadata, and bytes [start, end) as far as the object goes: the first look at one of unknown size.

        One request on ``native``, and one more where nothing lies at ``start``; two on ``arrow``.

        Raises:
            NotFoundError: there is no such object.
            OptionError: start < 0 or end < start.
        """

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """Fill all of ``buffer`` (writable, contiguous) with the bytes from ``start`` on. As ``get_range``."""

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """Store ``data`` under ``key`` as one object, all or nothing.

        Raises:
            ExistsError: mode is "create" and the key exists; the object there is untouched.
        """

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """Write an object of unknown size in pieces (multipart where the store has it).

        Args:
            key: the object.
            size_hint: about how many bytes will come. Stores that send parts choose their size by it; an object of
                more than 160 GB needs it there.

        Raises:
            OptionError: ``size_hint`` is negative or more than the store can hold.
        """

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """All objects below the directory ``prefix``, recursively, as record batches of ``LIST_SCHEMA``.

        A prefix names a directory: "a/b" and "a/b/" both mean keys that start with "a/b/". Zero-byte
        keys that end in "/" are directory markers and are left out. Order is the store's own; a prefix
        without objects yields nothing.

        Raises:
            NotFoundError: the container does not exist.
        """

    def delete(self, key: str) -> None:
        """Remove one object. A key that does not exist is no error, as on S3."""

    def copy(self, source: str, target: str) -> None:
        """Copy an object within the container, on the server where it can.

        Raises:
            NotFoundError: there is no such source.
        """

    def close(self) -> None:
        """Give up connections. Idempotent; verbs called afterwards raise ClosedError."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class BulkStore(Store, Protocol):
    """A store that can remove many objects by one request. ``s3dlio.delete`` uses it where it is there."""

    @property
    def deletes_at_once(self) -> int:
        """Most keys of one ``delete_many``; 1: it is not to be used."""

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects, one at least. One request; keys that do not exist may fail it.

        Raises:
            StorageError: some or all are still there. Its URI is the first key's, whichever it was.
        """
