"""An object of unknown size read whole, or from some byte on: one request if it is small, parallel parts if not.

The first request asks for up to 8 MiB and so tells the size; all parts ask for the version that it saw.
Owns: the memory the bytes land in. Must not know: engines; who runs the parts (``read`` does, on threads).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from s3dlio.arrays import allocate
from s3dlio.concurrency.calls import in_order
from s3dlio.errors import OptionError
from s3dlio.storage.arguments import check_range, target
from s3dlio.storage.translate import changed, naming, past_end
from s3dlio.uri import shown

if TYPE_CHECKING:
    from s3dlio.storage.protocol import BufferLike, ObjectMeta, Store

__all__ = ["PARTS_IN_FLIGHT", "PART_BYTES", "ObjectRead", "get_clipped", "read"]

PART_BYTES = 8 << 20
"""Of the first request and of each part. Large enough that most objects are one request; 8 MiB ranges doubled the
rate of whole objects of 128 MiB (docs/decisions/0004)."""

PARTS_IN_FLIGHT = 16
"""Parts of one object read at a time: what a 25 Gbit/s line takes from a server that gives 1.5 Gbit/s a connection."""


def get_clipped(store: Store, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
    """``Store.get_clipped``: metadata, and bytes [start, end) as far as the object goes."""
    verb = getattr(store, "get_clipped", None)
    if verb is not None:
        return verb(key, start, end)
    with naming("get"):
        meta = store.head(key)  # a store of another maker, from before there was the verb
        last = min(end, meta.size)
        return meta, store.get_range(key, start, last, etag=meta.etag) if start < last else pa.py_buffer(b"")


class ObjectRead:
    """Bytes [start, end) of one object: ``begin``, then each of ``parts`` by any thread, then ``result``.

    Args:
        store: where the object is.
        key: the object.
        start: first byte, >= 0.
        end: one past the last byte; None: the object's end.
        into: writable memory for all of it. It may be larger, which leaves its rest as it is.
        etag: refuse any other version of the object.
        operation: what was called, for errors.

    Raises:
        OptionError: a backward range, or memory that cannot be written to.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        into: BufferLike | None = None,
        etag: str | None = None,
        operation: str = "get",
    ) -> None:
        self.parts: list[tuple[int, int]] = []
        """What is left to read after ``begin``, each by ``read_part``."""
        self.size = 0
        """Bytes in the result, known after ``begin``."""
        self._store = store
        self._key = key
        self._start = start
        self._end = end
        self._uri = shown(store.uri(key))
        self._into = None if into is None else np.frombuffer(target(into, self._uri), np.uint8)
        self._etag = etag
        self._operation = operation
        self._memory: Any = None
        self._first: pa.Buffer | None = None
        check_range(start, start if end is None else end, self._uri)

    def begin(self) -> None:
        """The first request. Afterwards a small object is there, and ``parts`` is empty.

        Raises:
            NotFoundError: there is no such object.
            ShortReadError: it ends before ``end``, or before ``start``.
            PreconditionError: it is not the version that was asked for.
            OptionError: it does not fit into the memory given.
        """
        with naming(self._operation):
            meta, first = get_clipped(self._store, self._key, self._start, self._start + self._first_bytes())
        if self._etag is not None and meta.etag != self._etag:
            raise changed(self._operation, self._uri, self._etag)
        end = meta.size if self._end is None else self._end
        if max(self._start, end) > meta.size:
            raise past_end(self._operation, self._uri, self._start, max(self._start, end), meta.size)
        self.size = end - self._start
        if self._into is not None:
            if self.size > self._into.size:
                raise OptionError(
                    f"get_into {self._uri}: the object has {self.size} bytes, expected at most the {self._into.size} "
                    "of the buffer. Pass a larger one.",
                    field="buffer",
                )
            self._memory = self._into[: self.size]
        elif self.size > first.size:
            self._memory = allocate((self.size,), np.dtype(np.uint8))
        if self._memory is None:
            self._first = first
            return
        self._memory[: first.size] = np.frombuffer(first, np.uint8)
        self._etag = meta.etag
        begin = self._start + first.size
        self.parts = [(at, min(at + PART_BYTES, end)) for at in range(begin, end, PART_BYTES)]

    def read_part(self, number: int) -> None:
        """Read ``parts[number]``. From any thread, several at a time.

        Raises:
            PreconditionError: the object was overwritten since ``begin``.
        """
        start, end = self.parts[number]
        view = self._memory[start - self._start : end - self._start]
        with naming(self._operation):
            self._store.get_into(self._key, view, start, etag=self._etag)

    def result(self) -> pa.Buffer:
        """The bytes, read-only, once all parts are read. For memory of the caller's own: a view of it."""
        if self._first is not None:
            return self._first
        view = self._memory.view()
        view.flags.writeable = False
        return pa.py_buffer(view)

    def _first_bytes(self) -> int:
        known = PART_BYTES if self._end is None else self._end - self._start
        if self._into is not None:
            known = min(known, self._into.size)
        return min(known, PART_BYTES)


def read(
    store: Store,
    key: str,
    *,
    start: int = 0,
    end: int | None = None,
    into: BufferLike | None = None,
    etag: str | None = None,
    operation: str = "get",
) -> ObjectRead:
    """Do all of an ``ObjectRead``. Starts threads if there are parts, and ends them. Args, Raises: as there."""
    reading = ObjectRead(store, key, start=start, end=end, into=into, etag=etag, operation=operation)
    reading.begin()
    work = ((0, functools.partial(reading.read_part, number)) for number in range(len(reading.parts)))
    for _ in in_order(work, threads=PARTS_IN_FLIGHT, name="get"):
        pass
    return reading
