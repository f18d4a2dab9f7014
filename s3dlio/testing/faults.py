"""A store that misbehaves on purpose: late, failing or short reads, at the calls that a test chooses.

Owns: counting reads and asking the test what becomes of each. Must not know: what reads the store, time.

    late = threading.Event()
    store = FaultyStore(store, before=lambda call: late.wait(10) if call.key == "a" else None)
    store = FaultyStore(store, before=fail_at(3, StorageError("injected")))
    store = FaultyStore(store, shorten=lambda call: 1 if call.number == 3 else 0)

Latency is whatever ``before`` waits for: an event that the test sets when it is time, never a sleep.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dlio.errors import ShortReadError
from s3dlio.storage.object_read import get_clipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from s3dlio.storage import BufferLike, ObjectMeta, ObjectWriter, PutMode, Store

__all__ = ["FaultyStore", "ReadCall", "fail_at"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ReadCall:
    """One read of a ``FaultyStore``."""

    number: int
    """From 0, in the order in which the calls came, over all keys and verbs."""
    verb: str
    """"head", "get", "get_range", "get_clipped" or "get_into"."""
    key: str
    """The object."""
    start: int = 0
    """First byte; 0 for head and get."""
    etag: str | None = None
    """The version asked for."""


def fail_at(number: int, error: Exception) -> Callable[[ReadCall], None]:
    """A ``before`` that raises ``error`` at the read of that number."""

    def before(call: ReadCall) -> None:
        if call.number == number:
            raise error

    return before


def _nothing(_call: ReadCall) -> None:
    return None


class FaultyStore:
    """A ``Store`` around another one, whose reads go wrong as the test says. Writes and listings pass through.

    Args:
        store: the one that holds the objects. It is closed with this one.
        before: called in the reading thread before each read; may wait, raise, or change the object.
        shorten: how many bytes of a read get lost on the way, 0 for none. As every store must, it notices and
            raises ShortReadError; but ``silent`` delivers what came, as a store with a bug would.
        silent: see ``shorten``; for ``get`` alone.

    Threads: any, if the callables allow it.
    """

    def __init__(
        self,
        store: Store,
        *,
        before: Callable[[ReadCall], object] = _nothing,
        shorten: Callable[[ReadCall], int | None] = _nothing,
        silent: bool = False,
    ) -> None:
        self._store = store
        self._before = before
        self._shorten = shorten
        self._silent = silent
        self._numbers = itertools.count()  # one operation, which threads need no lock for
        self.calls: list[ReadCall] = []
        """Every read so far."""

    @property
    def atomic_create(self) -> bool:
        """That of the store within."""
        return self._store.atomic_create

    @property
    def filesystem(self) -> object:
        """That of the store within: nothing goes wrong there."""
        return self._store.filesystem

    def path(self, key: str) -> str:
        """As ``Store.path``."""
        return self._store.path(key)

    def uri(self, key: str) -> str:
        """As ``Store.uri``."""
        return self._store.uri(key)

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``, after ``before``."""
        self._begin("head", key)
        return self._store.head(key)

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``, after ``before``, less what ``shorten`` says."""
        lost = self._lost(self._begin("get", key))
        buffer = self._store.get(key)
        if lost and not self._silent:
            raise self._short("get", key, buffer.size - lost, buffer.size)
        return buffer.slice(0, max(0, buffer.size - lost))

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``, after ``before``; a ShortReadError where ``shorten`` says so."""
        if lost := self._lost(self._begin("get_range", key, start, etag)):
            raise self._short("get_range", key, end - start - lost, end - start)
        return self._store.get_range(key, start, end, etag=etag)

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``, after ``before``; a ShortReadError where ``shorten`` says so."""
        lost = self._lost(self._begin("get_clipped", key, start))
        meta, buffer = get_clipped(self._store, key, start, end)
        if lost:
            raise self._short("get_clipped", key, buffer.size - lost, buffer.size)
        return meta, buffer

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``, after ``before``; a ShortReadError where ``shorten`` says so."""
        if lost := self._lost(self._begin("get_into", key, start, etag)):
            size = pa.py_buffer(buffer).size
            raise self._short("get_into", key, size - lost, size)
        self._store.get_into(key, buffer, start, etag=etag)

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``."""
        return self._store.put(key, data, mode=mode)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``."""
        return self._store.open_writer(key, size_hint=size_hint)

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``."""
        return self._store.list(prefix)

    def delete(self, key: str) -> None:
        """As ``Store.delete``."""
        self._store.delete(key)

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        self._store.copy(source, target)

    def close(self) -> None:
        """Close the store within."""
        self._store.close()

    def _begin(self, verb: str, key: str, start: int = 0, etag: str | None = None) -> ReadCall:
        call = ReadCall(number=next(self._numbers), verb=verb, key=key, start=start, etag=etag)
        self.calls.append(call)
        self._before(call)
        return call

    def _lost(self, call: ReadCall) -> int:
        return self._shorten(call) or 0

    def _short(self, verb: str, key: str, got: int, expected: int) -> ShortReadError:
        return ShortReadError(
            f"{verb} {self.uri(key)}: got {got} bytes, expected {expected}. Injected by FaultyStore.",
            uri=self.uri(key),
            operation=verb,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
