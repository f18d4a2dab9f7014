"""O_DIRECT below ``DirectStore``: aligned requests, several of a large one in flight, unaligned edges.

Owns: what is aligned and how, and what happens where a filesystem refuses O_DIRECT.
Must not know: keys, stores, threads (``lanes``).

Guarantees:
- a part that is aligned in file and memory goes between the device and that memory; any other is copied once
- a request refers to its memory, which is therefore not given out again before it has ended
- a file's last bytes are written as a whole block and the file is then cut to its length
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from s3dlio.errors import StorageError
from s3dlio.storage.direct.aligned import BLOCK, AlignedMemory, address_of, round_down, round_up
from s3dlio.storage.direct.lanes import LANES, PART_BYTES, in_lanes, parts_of
from s3dlio.storage.posix import OpenFile, PendingFile, opened, plain_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["DirectAccess", "DirectFallbackWarning", "DirectFile", "DirectPendingFile"]

_O_DIRECT = getattr(os, "O_DIRECT", 0)  # macOS has none

_STAGE_BYTES = PART_BYTES * LANES
"""Gathered by a writer before it writes: one request a lane."""

_COPIED_BYTES = 256 << 10
"""Up to here a read into memory that is not aligned as a whole is one request and a copy, which costs less than
requests of their own for the edges."""


class DirectFallbackWarning(RuntimeWarning):
    """``direct://`` goes through the page cache, because the filesystem refuses O_DIRECT."""


class DirectAccess:
    """How the files of one store are opened, and the memory they are read into.

    Args:
        fallback: go through the page cache, with one warning, where O_DIRECT is refused.
    """

    def __init__(self, *, fallback: bool) -> None:
        self.memory = AlignedMemory()
        self.fallback = fallback
        self._warned = False

    @contextlib.contextmanager
    def opened(self, path: str, uri: str) -> Iterator[DirectFile]:
        """As ``posix.opened``."""
        with opened(path, self._opener(uri)) as file:
            yield DirectFile(file.descriptor, file.status, self, uri)

    def pending(self, path: str, uri: str) -> DirectPendingFile:
        """As ``posix.PendingFile``."""
        return DirectPendingFile(path, self, uri, self._opener(uri))

    def refused(self, descriptor: int, uri: str, cause: OSError) -> None:
        """Make the open file one of the page cache.

        Raises:
            StorageError: that is not wanted.
        """
        self._admit(uri, cause)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) & ~_O_DIRECT)

    def _opener(self, uri: str) -> Callable[[str, int], int]:
        def open_direct(path: str, flags: int) -> int:
            if not _O_DIRECT:
                self._admit(uri, None)
            try:
                return plain_open(path, flags | _O_DIRECT)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                if flags & os.O_CREAT:  # some filesystems make the file and then refuse to open it
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)  # noqa: PTH108 - beside os.open
                elif not Path(path).is_file():  # a FIFO, a device, a directory: not the filesystem's doing
                    raise IsADirectoryError(path) from error
                self._admit(uri, error)
                return plain_open(path, flags)

        return open_direct

    def _admit(self, uri: str, cause: OSError | None) -> None:
        if not self.fallback:
            raise StorageError(
                f"open {uri}: the filesystem refuses O_DIRECT, expected one that has it. Use file://, or set "
                "direct_fallback=True to go through the page cache.",
                uri=uri,
                operation="open",
            ) from cause
        if not self._warned:
            self._warned = True
            warnings.warn(
                "direct:// goes through the page cache: the filesystem refuses O_DIRECT, and direct_fallback is True",
                DirectFallbackWarning,
                stacklevel=2,
            )


class DirectFile(OpenFile):
    """A file that is read past the page cache."""

    def __init__(self, descriptor: int, status: os.stat_result, access: DirectAccess, uri: str) -> None:
        super().__init__(descriptor, status)
        self._access = access
        self._uri = uri

    def read(self, start: int, end: int) -> pa.Buffer:
        """As ``OpenFile.read``, in reused memory: the blocks that hold the range, of which the buffer is a slice."""
        if start == end:
            return pa.py_buffer(b"")
        first = round_down(start)
        memory = self._access.memory.take(round_up(end) - first)
        got = self.read_into(memory, first)
        return pa.py_buffer(memory[start - first : min(end - first, max(got, start - first))].toreadonly())

    def read_into(self, view: memoryview, start: int) -> int:
        """As ``OpenFile.read_into``. Straight into ``view`` where it is as far from a block's begin as ``start``."""
        ends: list[int] = []

        def read_part(descriptor: int, begin: int, end: int) -> None:
            got = self._read_part(descriptor, view[begin - start : end - start], begin)
            if got < end - begin:
                ends.append(begin + got)

        in_lanes(self.descriptor, _cuts(view, start), read_part)
        return min(ends, default=start + len(view)) - start

    def pieces(self) -> Iterator[memoryview]:
        """As ``OpenFile.pieces``, as large as a pending file writes without gathering."""
        memory = self._access.memory.take(_STAGE_BYTES)
        done = 0
        while count := self.read_into(memory, done):
            yield memory[:count]
            if count < len(memory):
                return  # the file ends here, and the next offset would be no multiple of a block
            done += count

    def _read_part(self, descriptor: int, view: memoryview, start: int) -> int:
        if start % BLOCK == len(view) % BLOCK == address_of(view) % BLOCK == 0:
            return self._read_blocks(descriptor, view, start)
        first = round_down(start)
        blocks = self._access.memory.take(round_up(start + len(view)) - first)
        got = min(max(0, self._read_blocks(descriptor, blocks, first) - (start - first)), len(view))
        _copy(view[:got], blocks[start - first :][:got])
        return got

    def _read_blocks(self, descriptor: int, view: memoryview, start: int) -> int:
        done = 0
        while done < len(view):
            direct = _is_direct(descriptor)
            try:
                count = os.preadv(descriptor, [view[done:]], start + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not direct:
                    raise
                self._access.refused(descriptor, self._uri, error)
                continue
            done += count
            if count == 0 or (count % BLOCK and direct):
                break  # the file ends inside a block
        return done


class DirectPendingFile(PendingFile):
    """A pending file that is written past the page cache, from aligned memory."""

    def __init__(self, path: str, access: DirectAccess, uri: str, opener: Callable[[str, int], int]) -> None:
        super().__init__(path, opener)
        self._access = access
        self._uri = uri
        self._written = 0
        self._staged = 0
        self._stage: memoryview | None = None

    def write(self, data: memoryview) -> None:
        """Append all of ``data``: whole blocks of large data at once, the rest when there is enough of it."""
        if not self._staged and len(data) >= _STAGE_BYTES:
            whole = round_down(len(data))
            self._write_out(data[:whole])
            data = data[whole:]
        while len(data):
            stage = self._staging()
            count = min(len(data), len(stage) - self._staged)
            _copy(stage[self._staged : self._staged + count], data[:count])
            self._staged += count
            data = data[count:]
            if self._staged == len(stage):
                self._write_out(stage)
                self._staged = 0

    def discard(self) -> None:
        """As ``PendingFile.discard``."""
        self._stage = None
        super().discard()

    def _staging(self) -> memoryview:
        if self._stage is None:
            self._stage = self._access.memory.take(_STAGE_BYTES)
        return self._stage

    def _settle(self) -> None:
        descriptor = self._file.fileno()
        size = self._written + self._staged
        if self._staged:
            blocks = self._staging()[: round_up(self._staged)]
            blocks[self._staged :] = bytes(len(blocks) - self._staged)
            self._write_out(blocks)
        if self._written != size:
            os.ftruncate(descriptor, size)
        self._stage = None
        os.fsync(descriptor)
        if _is_direct(descriptor) and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # cutting the last block read it into the cache

    def _write_out(self, blocks: memoryview) -> None:
        """Append ``blocks``, a whole number of them."""
        descriptor = self._file.fileno()
        begin = self._written
        if len(blocks) > PART_BYTES and _is_direct(descriptor):
            # Parts that do not make the file longer can be written side by side. A disk that is full says so here.
            _allocate(descriptor, begin, len(blocks))

        def write_part(lane: int, first: int, end: int) -> None:
            part = blocks[first - begin : end - begin]
            if address_of(part) % BLOCK:
                aligned = self._access.memory.take(len(part))
                _copy(aligned, part)
                part = aligned
            self._write_blocks(lane, part, first)

        in_lanes(descriptor, parts_of(begin, begin + len(blocks)), write_part)
        self._written += len(blocks)

    def _write_blocks(self, descriptor: int, view: memoryview, start: int) -> None:
        done = 0
        while done < len(view):
            direct = _is_direct(descriptor)
            try:
                count = os.pwrite(descriptor, view[done:], start + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not direct:
                    raise
                self._access.refused(descriptor, self._uri, error)
                continue
            done += round_down(count) or count  # the begin of a block is written again, with the rest of it


def _cuts(view: memoryview, start: int) -> list[tuple[int, int]]:
    """The parts in which [start, start + len(view)) is read into ``view``, with its edges cut off if that helps."""
    end = start + len(view)
    if not len(view):
        return []
    first, last = round_up(start), round_down(end)
    straight = first < last and (address_of(view) + first - start) % BLOCK == 0
    if not straight or (first, last) == (start, end) or len(view) <= _COPIED_BYTES:
        return parts_of(start, end)
    edges = ([(start, first)] if start < first else []), ([(last, end)] if last < end else [])
    return edges[0] + parts_of(first, last) + edges[1]


def _allocate(descriptor: int, begin: int, size_bytes: int) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(descriptor, begin, size_bytes)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.EOPNOTSUPP, errno.ENODEV}:  # a filesystem that cannot do it
            raise


def _copy(target: memoryview, source: memoryview) -> None:
    """Copy without holding the GIL."""
    if len(target):
        np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(source, np.uint8))


def _is_direct(descriptor: int) -> bool:
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & _O_DIRECT)
