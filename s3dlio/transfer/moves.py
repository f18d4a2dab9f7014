"""How one object gets from its source to its target: four ways, each cut into pieces for the conveyor.

``Landing`` into a local file, in parallel parts; ``Sending`` of a local file; ``Relay`` through this machine's
memory; ``ServerCopy`` within one store. Owns: pinning to one version, part sizes, memory per piece.

Guarantees: a target appears whole or not at all; ``discard`` leaves nothing of what has not become whole.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from typing import TYPE_CHECKING, Protocol

from s3dlio.concurrency import Lock, ReadAhead
from s3dlio.errors import OptionError, StorageError
from s3dlio.reading import part_ranges
from s3dlio.storage.posix import opened
from s3dlio.storage.translate import naming, translating_os
from s3dlio.transfer.conveyor import Piece
from s3dlio.transfer.pending import PendingDownload

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from s3dlio.storage.posix import OpenFile
    from s3dlio.storage.protocol import ObjectWriter, Store
    from s3dlio.transfer.conveyor import Conveyor
    from s3dlio.transfer.selection import Item
    from s3dlio.transfer.side import Side

__all__ = ["PART_BYTES", "Landing", "Move", "Relay", "Sending", "ServerCopy"]

PART_BYTES = 8 << 20
"""Larger objects are moved in parts of this size, smaller ones in one request; as ``FetchOptions.part_bytes``."""

_RECEIVED = 2
"""Memory of a part in bytes of the part: obstore gathers what arrives and then joins it (326 MiB for 20 x 8 MiB)."""

_WRITER_BYTES = 80 << 20
"""What a multipart upload holds: four parts of 16 MiB on their way and one being filled."""

_RELAY_PARTS = 4
"""Parts of one object read ahead of its writer."""


class Move(Protocol):
    """One object on its way."""

    def pieces(self) -> Iterator[Piece]:
        """The work, to be done once, by any threads."""

    def discard(self, until: float) -> str | None:
        """The transfer is over: drop what is not whole. Does nothing to an object that is.

        Args:
            until: when to stop waiting (``time.monotonic()``) for a thread that has to abort an upload.

        Returns: the URI of a target of which something may stay, because that thread is in a request; or None.
        """


class Landing:
    """An object on its way into the local file ``path``."""

    def __init__(self, conveyor: Conveyor, source: Side, item: Item, path: str) -> None:
        self._conveyor = conveyor
        self._source = source
        self._item = item
        self._path = path
        self._uri = source.uri(item.key)
        self._parts = part_ranges(0, item.size, part_bytes=PART_BYTES)
        self._left = len(self._parts)
        self._lock = Lock()
        self._etag = item.etag
        self._pinned = item.etag is not None
        self._began = 0.0
        self._file = PendingDownload(path)

    def pieces(self) -> Iterator[Piece]:
        """One for each part."""
        for start, end in self._parts:
            yield Piece(_RECEIVED * (end - start), functools.partial(self._part, start, end))

    def discard(self, until: float) -> None:  # noqa: ARG002 - nothing to wait for
        """Remove the temporary file."""
        self._file.discard()

    def _part(self, start: int, end: int) -> None:
        self._conveyor.check()
        self._began = self._began or time.perf_counter()
        store, key = self._source.store, self._item.key
        whole = len(self._parts) == 1
        data = store.get(key) if whole else store.get_range(key, start, end, etag=self._version())
        self._conveyor.check()
        with translating_os(f"download {self._uri} to", self._path):
            self._file.write_at(start, memoryview(data).cast("B"))
            with self._lock:
                self._left -= 1
                last = self._left == 0
            if last:
                self._publish()
        self._conveyor.moved(self._uri, data.size, whole=last, began=self._began)

    def _publish(self) -> None:
        try:
            self._file.publish(self._item.mtime)
        except IsADirectoryError as error:
            raise OptionError(
                f"download {self._uri}: {self._path} is a directory, expected a file or nothing there. "
                "Remove it or choose another target.",
                field="target",
            ) from error

    def _version(self) -> str | None:
        """The ETag that all parts ask for. A listing without ETags costs a head."""
        with self._lock:
            if not self._pinned:
                with naming("get"):
                    self._etag, self._pinned = self._source.store.head(self._item.key).etag, True
            return self._etag


class Sending:
    """A local file on its way to the object ``key``: one put, or a writer's parts if it is large."""

    def __init__(self, conveyor: Conveyor, source: Side, item: Item, target: Side, key: str) -> None:
        self._conveyor = conveyor
        self._path = source.path(item.key)
        self._uri = source.uri(item.key)
        self._item = item
        self._target = target
        self._key = key
        self._writing = _Writing(conveyor, target, key)

    def pieces(self) -> Iterator[Piece]:
        """One: a writer takes its bytes in order, and sends them in parallel."""
        # Twice: the engine holds a copy of what it sends.
        yield Piece(min(2 * self._item.size, _WRITER_BYTES), self._send)

    def discard(self, until: float) -> str | None:
        """Wait for the thread that writes, which aborts what it has begun."""
        return self._writing.discard(until)

    def _send(self) -> None:
        self._conveyor.check()
        began = time.perf_counter()
        store = self._target.store
        with translating_os("upload", self._uri), opened(self._path) as file:
            if file.status.st_size <= PART_BYTES:
                data = file.read(0, file.status.st_size + 1)  # one more shows a file that grew
                self._check_unchanged(file, data.size)
                self._conveyor.check()
                store.put(self._key, data)
                self._conveyor.moved(self._uri, data.size, whole=True, began=began)
                return
            with self._writing.open(file.status.st_size) as writer:
                self._check_unchanged(file, self._write_all(file, writer, began))
        self._conveyor.moved(self._uri, 0, whole=True, began=began)

    def _write_all(self, file: OpenFile, writer: ObjectWriter, began: float) -> int:
        sent = 0
        while data := os.pread(file.descriptor, PART_BYTES, sent):  # bytes, which a writer need not copy
            self._conveyor.check()
            writer.write(data)
            sent += len(data)
            self._conveyor.moved(self._uri, len(data), whole=False, began=began)
        self._conveyor.check()
        return sent

    def _check_unchanged(self, file: OpenFile, sent: int) -> None:
        before, after = file.status, os.fstat(file.descriptor)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or sent != after.st_size:
            raise StorageError(
                f"upload {self._uri}: the file changed while it was read ({sent} bytes), expected it to stay as it "
                f"was ({before.st_size} bytes). Upload it again when nobody writes it.",
                uri=self._uri,
                operation="upload",
                attempts=0,
                retryable=True,
            )


class Relay:
    """An object of one store on its way to another, through memory."""

    def __init__(self, conveyor: Conveyor, source: Side, item: Item, target: Side, key: str) -> None:
        self._conveyor = conveyor
        self._source = source
        self._uri = source.uri(item.key)
        self._item = item
        self._target = target
        self._key = key
        self._writing = _Writing(conveyor, target, key)

    def pieces(self) -> Iterator[Piece]:
        """One: parts are read in parallel and written in order."""
        large = self._item.size > PART_BYTES
        yield Piece(
            _WRITER_BYTES + _RECEIVED * _RELAY_PARTS * PART_BYTES if large else _RECEIVED * self._item.size, self._copy
        )

    def discard(self, until: float) -> str | None:
        """Wait for the thread that writes, which aborts what it has begun."""
        return self._writing.discard(until)

    def _copy(self) -> None:
        self._conveyor.check()
        began = time.perf_counter()
        store, key, size = self._source.store, self._item.key, self._item.size
        if size <= PART_BYTES:
            data = store.get(key)
            self._conveyor.check()
            self._target.store.put(self._key, data)
            self._conveyor.moved(self._uri, data.size, whole=True, began=began)
            return
        with naming("get"):
            etag = self._item.etag or store.head(key).etag
        # The writer is left first: the reading waits for its threads, which may be in requests.
        with (
            ReadAhead(
                (_Part(store, key, start, end, etag) for start, end in part_ranges(0, size, part_bytes=PART_BYTES)),
                threads=_RELAY_PARTS,
                budget=_RELAY_PARTS * PART_BYTES,
                max_groups=_RELAY_PARTS,
                name="relay",
            ) as reading,
            self._conveyor.stopping(reading),
            self._writing.open(size) as writer,
        ):
            for part in reading:
                self._conveyor.check()
                data = part.taken()
                writer.write(data)
                self._conveyor.moved(self._uri, data.size, whole=False, began=began)
            self._conveyor.check()
        self._conveyor.moved(self._uri, 0, whole=True, began=began)


class _Writing:
    """An upload in parts, which one thread writes and another may wait for."""

    def __init__(self, conveyor: Conveyor, target: Side, key: str) -> None:
        self._conveyor = conveyor
        self._target = target
        self._key = key
        self._busy = Lock()
        self._closing = False

    @contextlib.contextmanager
    def open(self, size: int) -> Iterator[ObjectWriter]:
        """A writer of about ``size`` bytes; an exception, ``Stopped`` too, aborts it."""
        with self._busy:
            self._conveyor.check()  # inside: ``discard`` may not have waited for this one
            with self._target.store.open_writer(self._key, size_hint=size) as writer:
                yield writer
                self._closing = True

    def discard(self, until: float) -> str | None:
        """Wait until no writer is open, but not for one that is publishing: that cannot be called back.

        Returns: the URI of the target if one is open still.
        """
        patience_s = 0.0 if self._closing else max(0.0, until - time.monotonic())
        if not self._busy.acquire(timeout=patience_s):
            return self._target.uri(self._key)
        self._busy.release()
        return None


class _Part:
    """A part of an object as a group of one task."""

    __slots__ = ("_data", "_etag", "_key", "_range", "_store")

    def __init__(self, store: Store, key: str, start: int, end: int, etag: str | None) -> None:
        self._store = store
        self._key = key
        self._range = start, end
        self._etag = etag
        self._data: pa.Buffer | None = None

    @property
    def cost(self) -> int:
        return self._range[1] - self._range[0]

    def __len__(self) -> int:
        return 1

    def run(self, _task: int) -> None:
        self._data = self._store.get_range(self._key, *self._range, etag=self._etag)

    def taken(self) -> pa.Buffer:
        """The bytes, once."""
        data, self._data = self._data, None
        assert data is not None
        return data


class ServerCopy:
    """An object copied by the store that holds both names."""

    def __init__(self, conveyor: Conveyor, source: Side, item: Item, target: Side, key: str) -> None:
        self._conveyor = conveyor
        self._source = source
        self._target = target
        self._item = item
        self._key = key

    def pieces(self) -> Iterator[Piece]:
        """One: a request."""
        yield Piece(1, self._copy)

    def discard(self, until: float) -> None:
        """Nothing: the store's copy is all or nothing."""

    def _copy(self) -> None:
        self._conveyor.check()
        began = time.perf_counter()
        self._source.store.copy(self._item.key, self._key)
        self._conveyor.moved(self._source.uri(self._item.key), self._item.size, whole=True, began=began)
