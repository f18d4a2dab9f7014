"""``open_writer``: one object written in pieces, on any scheme, compressed and verified if asked for.

Owns: compression, verification after the fact, and the store that it opens. Must not know: how a store writes.

zstd: what is written is cut to blocks of 4 MiB, and each becomes a frame of its own. A file of several frames is a zstd
file (RFC 8878, 3): the ``zstd`` tool and ``pyarrow.CompressedInputStream`` read it as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import pyarrow as pa

from s3dlio.concurrency import ReadAhead
from s3dlio.errors import OptionError, StorageError
from s3dlio.storage.open import locate
from s3dlio.storage.translate import naming
from s3dlio.storage.writer import SinkWriter, crc32c_text
from s3dlio.uri import shown

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import ObjectWriter, Store, WriteResult
    from s3dlio.uri import Uri

__all__ = ["open_writer"]

_FRAME_BYTES = 4 << 20
"""Uncompressed bytes of a frame: large enough to cost no ratio, small enough to be memory that nobody notices."""

_SUFFIXES = (".zst", ".zstd")

_PIECE_BYTES = 8 << 20
"""What verification reads at a time."""

_READERS = 4
"""Pieces that it reads at the same time: 64 MiB of memory with those that wait."""


def open_writer(
    uri: str | os.PathLike[str] | Uri,
    *,
    size_hint: int | None = None,
    compression: Literal["zstd", "infer"] | None = None,
    verify: Literal["size", "readback"] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> ObjectWriter:
    """Write one object in pieces; nothing of it is visible before ``close``.

        with s3dlio.open_writer("s3://bucket/shards/1") as writer:  # an exception in here publishes nothing
            writer.write(array)
        writer.close()  # the WriteResult, again: size, etag, parts, checksum

    On the ``native`` engine parts are sent in parallel while you write, and ``write`` blocks while 4 of them (64 MiB)
    are on their way. On ``arrow`` the object is put aside (in memory up to 16 MiB, then in a temporary file) and
    sent by ``close``. Local files are written under a temporary name.

    Args:
        uri: of the object.
        size_hint: about how many bytes will come; objects of more than 160 GB on an object server need it.
        compression: "zstd" compresses; "infer" does if the name ends in .zst or .zstd. Size and checksum of the result
            are those of the compressed bytes.
        verify: what ``close`` does once the object is published. "size" asks the store for its size (one request);
            "readback" reads all of it and compares the CRC-32C. An object that fails stays where it is, because it
            may be another writer's by then: write it again, or delete it.
        storage_options: as for ``open_store``.
        filesystem: as for ``open_store``.

    Raises:
        OptionError: an argument is illegal.
        StorageError: from ``close``: the object is not what was written. From every call: as the store's.
    """
    if compression not in {None, "zstd", "infer"}:
        raise OptionError(
            f"open_writer {shown(str(uri))}: got compression={compression!r}, expected None, 'zstd' or 'infer'.",
            field="compression",
        )
    if verify not in {None, "size", "readback"}:
        raise OptionError(
            f"open_writer {shown(str(uri))}: got verify={verify!r}, expected None, 'size' or 'readback'.",
            field="verify",
        )
    store, key = locate(uri, storage_options=storage_options, filesystem=filesystem)
    try:
        place = store.uri(key)
        writer = store.open_writer(key, size_hint=size_hint)
        if compression == "zstd" or (compression == "infer" and key.endswith(_SUFFIXES)):
            writer = SinkWriter(place, _Compressed(writer), checksummed=False)
        return SinkWriter(place, _Verified(store, key, writer, verify), checksummed=False)
    except BaseException:
        store.close()
        raise


class _Compressed:
    """Compresses on the way to ``writer``."""

    parts = 1  # the writer below knows

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        self._codec = pa.Codec("zstd")
        self._pending = bytearray()
        self._frames = 0

    def write(self, data: bytes | pa.Buffer) -> None:
        view = memoryview(data).cast("B")
        while len(self._pending) + len(view) >= _FRAME_BYTES:
            taken = _FRAME_BYTES - len(self._pending)
            if self._pending:
                self._pending += view[:taken]
                self._end_frame()
            else:  # without a copy
                self._add_frame(view[:taken])
            view = view[taken:]
        self._pending += view

    def flush(self) -> None:
        if self._pending:
            self._end_frame()
        self._writer.flush()

    def publish(self) -> WriteResult:
        if self._pending or not self._frames:  # a zstd file of nothing is one frame
            self._end_frame()
        return self._writer.close()

    def discard(self) -> None:
        self._pending = bytearray()
        self._writer.abort()

    def _end_frame(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self._add_frame(pending)

    def _add_frame(self, data: bytearray | memoryview) -> None:
        self._writer.write(self._codec.compress(data, asbytes=True))
        self._frames += 1


class _Verified:
    """Passes on to ``writer``, looks at what it published, and closes ``store``, which is its own."""

    parts = 1  # the writer below knows

    def __init__(self, store: Store, key: str, writer: ObjectWriter, verify: str | None) -> None:
        self._store = store
        self._key = key
        self._writer = writer
        self._verify = verify

    def write(self, data: bytes | pa.Buffer) -> None:
        self._writer.write(data)

    def flush(self) -> None:
        self._writer.flush()

    def publish(self) -> WriteResult:
        result = self._writer.close()
        with naming("verify"):
            if self._verify is not None:
                self._compare(f"{self._store.head(self._key).size} bytes", f"{result.size} bytes")
            if self._verify == "readback":
                self._compare(_checksum(self._store, self._key, result.size, result.etag), result.checksum)
        self._store.close()
        return result

    def discard(self) -> None:
        try:
            self._writer.abort()
        finally:
            self._store.close()

    def _compare(self, found: str, expected: str | None) -> None:
        if found != expected:
            uri = self._store.uri(self._key)
            raise StorageError(
                f"verify {uri}: the store has {found}, expected {expected} as written. The object is still there, and "
                "may be another writer's by now. Write it again, or delete it.",
                uri=uri,
                operation="verify",
            )


class _Piece:
    """A range of the object being verified, as a group of one task."""

    def __init__(self, store: Store, key: str, start: int, end: int, etag: str | None) -> None:
        self.cost = end - start
        self.data: pa.Buffer | None = None
        self._store = store
        self._key = key
        self._start = start
        self._end = end
        self._etag = etag

    def __len__(self) -> int:
        return 1

    def run(self, _task: int) -> None:
        self.data = self._store.get_range(self._key, self._start, self._end, etag=self._etag)


def _checksum(store: Store, key: str, size: int, etag: str | None) -> str:
    """The checksum of the object as the store delivers it."""
    value: int = 0
    pieces = (
        _Piece(store, key, start, min(start + _PIECE_BYTES, size), etag) for start in range(0, size, _PIECE_BYTES)
    )
    with ReadAhead(
        pieces, threads=_READERS, budget=2 * _READERS * _PIECE_BYTES, max_groups=2 * _READERS, name="verify"
    ) as done:
        for piece in done:
            value = google_crc32c.extend(value, piece.data)
    return crc32c_text(value)
