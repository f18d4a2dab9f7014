"""One version of an object as a raw file with random access, which reads ahead when it is read in order.

Owns: which ranges are asked for, and when. Must not know: modes, text, buffering of small reads (``files``).

Guarantees:
- opening is one request and shows the version; every later one asks for that version
- at most ``_AHEAD`` parts of up to ``PART_BYTES`` are held or on their way, whatever the object's size
- reading in order starts with small parts and few of them, so that who reads a header does not fetch a part for it
- in a forked child the file goes on at its position, on requests of its own
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from s3dlio.concurrency.calls import Calls, in_order
from s3dlio.errors import OptionError
from s3dlio.storage.object_read import PART_BYTES, PARTS_IN_FLIGHT, get_clipped
from s3dlio.storage.translate import naming

if TYPE_CHECKING:
    import pyarrow as pa

    from s3dlio.concurrency.calls import Future
    from s3dlio.storage.loans import Loans
    from s3dlio.storage.protocol import Store

__all__ = ["RangeReader"]

_FIRST_BYTES = 1 << 20
"""Fetched on opening: small objects whole, and the header of every format. Less saves no time on most lines."""

_AHEAD = 4
"""Parts read ahead: with the part being read, 40 MiB."""

_SIGNAL_S = 0.2
"""As ``concurrency.detached``: how often a wait looks for signals that came just before it."""


class RangeReader(io.RawIOBase):
    """A raw, seekable, read-only file.

    Args:
        store: where the object is.
        key: the object.
        loans: given back on ``close``.

    Raises:
        NotFoundError: there is no such object.

    Threads: one at a time; ``io.BufferedReader`` sees to that.
    """

    def __init__(self, store: Store, key: str, loans: Loans) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._loans = loans
        self._position = 0
        self._block = np.empty(0, np.uint8)  # what was read last, from _block_start on
        self._block_start = 0
        self._run = 0  # blocks read one after the other: how far the reader has proved to be in order
        self._coming: deque[tuple[int, int, Future[pa.Buffer]]] = deque()
        self._calls: Calls | None = None
        self._pid = os.getpid()
        with naming("open"):
            self._meta, first = get_clipped(store, key, 0, _FIRST_BYTES)
        self._block = np.frombuffer(first, np.uint8)

    @property
    def name(self) -> str:
        """The URI, as files have a name."""
        return self._store.uri(self._key)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position; makes no request. Past the end is legal, and reads nothing."""
        self._check_open()
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._meta.size}
        if whence not in origins or origins[whence] + offset < 0:
            raise OptionError(
                f"seek {self.name}: got offset {offset} from {whence}, expected a position in the object.",
                field="offset",
            )
        self._position = origins[whence] + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``, or the start of it; 0 at the end of the object.

        Raises:
            PreconditionError: the object was overwritten since it was opened.
        """
        self._check_open()
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._meta.size - self._position)
        if wanted <= 0:
            return 0
        if not self._holds(self._position):
            if wanted >= 2 * PART_BYTES and not self._coming:
                return self._read_parts(view[:wanted])
            self._fetch(wanted)
        at = self._position - self._block_start
        count = min(wanted, self._block.size - at)
        np.frombuffer(view, np.uint8)[:count] = self._block[at : at + count]  # unlike memoryview, without the GIL
        self._position += count
        return count

    def readall(self) -> bytes:
        """All from the position to the end, by parallel parts. Copies once."""
        self._check_open()
        memory = bytearray(max(0, self._meta.size - self._position))
        view, done = memoryview(memory), 0
        while done < len(memory):
            done += self.readinto(view[done:])
        return bytes(memory)

    def close(self) -> None:
        """Stop reading ahead; waits briefly for requests under way. Idempotent."""
        if self.closed:
            return
        try:
            self._forget()
            if self._calls is not None:
                self._calls.close()
        finally:
            self._block = np.empty(0, np.uint8)
            self._loans.close()
            super().close()

    def _holds(self, position: int) -> bool:
        return self._block_start <= position < self._block_start + self._block.size

    def _is_coming(self, position: int) -> bool:
        return bool(self._coming) and self._coming[0][0] <= position < self._coming[-1][1]

    def _fetch(self, wanted: int) -> None:
        """Make the block hold the position."""
        if self._pid != os.getpid():
            self._calls, self._pid = None, os.getpid()
            self._coming.clear()  # the threads that fetch it are the parent's
        at = self._position
        runs_on = at == self._block_start + self._block.size or self._is_coming(at)
        if not runs_on:  # what was asked for, and no more
            self._run = 0
            self._forget()
            end = min(at + min(wanted, PART_BYTES), self._meta.size)
            self._block, self._block_start = np.frombuffer(self._get(at, end), np.uint8), at
            return
        self._run = min(self._run + 1, 8)
        while self._coming and self._coming[0][1] <= at:  # skipped
            self._coming.popleft()[2].cancel()
        if not self._coming:
            self._read_ahead(at)
        start, end, future = self._coming.popleft()
        try:
            self._read_ahead(end)
            self._block, self._block_start = np.frombuffer(_awaited(future), np.uint8), start
        except BaseException:
            self._forget()  # or the next read would go on behind the gap
            raise

    def _read_ahead(self, start: int) -> None:
        """Ask for what comes behind ``start``: parts that double up to ``PART_BYTES``, more of them in a longer run."""
        if self._calls is None:
            self._calls = Calls(threads=_AHEAD, name="read")
        if self._coming:
            start = self._coming[-1][1]
        while len(self._coming) < min(_AHEAD, self._run) and start < self._meta.size:
            end = min(start + min(PART_BYTES, _FIRST_BYTES << self._run), self._meta.size)
            self._coming.append((start, end, self._calls.submit(functools.partial(self._get, start, end))))
            start = end

    def _read_parts(self, view: memoryview) -> int:
        """Many bytes at a new place: parallel parts, straight into the caller's memory."""
        self._forget()
        start, size = self._position, len(view)

        def read(at: int) -> None:
            piece = view[at : min(at + PART_BYTES, size)]
            with naming("read"):
                self._store.get_into(self._key, piece, start + at, etag=self._meta.etag)

        work = ((0, functools.partial(read, at)) for at in range(0, size, PART_BYTES))
        for _ in in_order(work, threads=PARTS_IN_FLIGHT, name="read"):
            pass
        self._position += size
        self._block, self._block_start = np.empty(0, np.uint8), self._position
        return size

    def _get(self, start: int, end: int) -> pa.Buffer:
        with naming("read"):
            return self._store.get_range(self._key, start, end, etag=self._meta.etag)

    def _forget(self) -> None:
        """What is on its way goes elsewhere now."""
        coming, self._coming = self._coming, deque()
        for _, _, future in coming:
            future.cancel()

    def _check_open(self) -> None:
        if self.closed:  # a ValueError, as of every closed file
            raise ValueError(f"read {self.name}: the file is closed, expected an open one. Open it again.")


def _awaited(future: Future[pa.Buffer]) -> pa.Buffer:
    """The result. A Ctrl-C between Python's last look for signals and the wait would not end it: so look again."""
    while not future.done():
        with contextlib.suppress(TimeoutError):  # one of the request's own comes out below
            future.result(_SIGNAL_S)
    return future.result()
