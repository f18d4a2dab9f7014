"""``memory://name``: a store in a dict, the reference that the others are tested against.

Owns: the named stores of this process. A forked child works on its own copy; a pickled store
carries its content along, and where the name is already in use it becomes that store.

Every verb is one operation on a dict, which Python makes atomic, so threads need no lock.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dlio.errors import ClosedError
from s3dlio.storage.arguments import check_key, check_mode, check_range, check_size_hint, directory, payload, target
from s3dlio.storage.arrow.filesystem import store_filesystem
from s3dlio.storage.listing import batches
from s3dlio.storage.protocol import ObjectMeta
from s3dlio.storage.translate import changed, exists, no_object, past_end
from s3dlio.storage.writer import SinkWriter
from s3dlio.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from s3dlio.storage.protocol import BufferLike, ObjectWriter, PutMode

__all__ = ["MemoryStore"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    version: int
    mtime: dt.datetime

    def meta(self, key: str) -> ObjectMeta:
        return ObjectMeta(key=key, size=len(self.data), etag=f"v{self.version}", mtime=self.mtime)


_STORES: dict[str, dict[str, _Object]] = {}
# The only module-level state of the storage floor but one: a memory:// URI has no server that could own
# its objects, so the process does, by name.

_VERSIONS = itertools.count(1)
# Shared by all stores, so that an ETag never comes back when a name is cleared and used again.


class MemoryStore:
    """Objects in this process's memory. Two stores of one name see the same objects.

    Args:
        name: the container in ``memory://name/key``.
    """

    atomic_create = True

    def __init__(self, name: str) -> None:
        self._uri = Uri("memory", name, "")
        self._objects = _STORES.setdefault(name, {})
        self._closed = False

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.PyFileSystem`` over this store."""
        return store_filesystem(self)

    def path(self, key: str) -> str:
        """The key itself."""
        return key

    def uri(self, key: str) -> str:
        """``memory://name/key``."""
        return str(self._uri.with_key(key))

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``."""
        return self._find(key, "head").meta(key)

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``. A view of the stored bytes, never changed by later writes."""
        return pa.py_buffer(self._find(key, "get").data)

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``. A view of the stored bytes."""
        return self._range("get_range", key, start, end, etag)

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``. A view of the stored bytes."""
        check_range(start, end, self.uri(key))
        found = self._find(key, "get")
        return found.meta(key), pa.py_buffer(found.data)[start : max(start, end)]

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``."""
        view = target(buffer, self.uri(key))
        view[:] = memoryview(self._range("get_into", key, start, start + len(view), etag)).cast("B")

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``. Copies ``data``."""
        self._check_open("put")
        uri = self.uri(key)
        check_key(key, "put", uri, reading=False)
        check_mode(mode, uri)
        new = _Object(payload(data, "put", uri).to_pybytes(), next(_VERSIONS), dt.datetime.now(dt.UTC))
        if mode == "overwrite":
            self._objects[key] = new
        elif self._objects.setdefault(key, new) is not new:
            raise exists("put", uri)
        return new.meta(key)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``."""
        self._check_open("open_writer")
        check_size_hint(size_hint, self.uri(key))
        check_key(key, "open_writer", self.uri(key), reading=False)
        return SinkWriter(self.uri(key), _Sink(self, key))

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``, sorted by key: the objects at the time of the call."""
        self._check_open("list")
        below = directory(prefix, self.uri(prefix))
        found = sorted(item for item in self._objects.copy().items() if _is_below(item[0], below))
        return batches(entry.meta(key) for key, entry in found)

    def delete(self, key: str) -> None:
        """As ``Store.delete``."""
        self._check_open("delete")
        self._objects.pop(check_key(key, "delete", self.uri(key), reading=False), None)

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        self.put(target, self._find(source, "copy").data)

    def clear(self) -> None:
        """Remove every object of this name."""
        self._check_open("clear")
        self._objects.clear()

    def close(self) -> None:
        """Refuse further verbs on this handle. The objects stay, under the name."""
        self._closed = True

    def _range(self, operation: str, key: str, start: int, end: int, etag: str | None) -> pa.Buffer:
        uri = self.uri(key)
        check_range(start, end, uri)
        found = self._find(key, operation)
        if etag is not None and etag != f"v{found.version}":
            raise changed(operation, uri, etag)
        if end > len(found.data):
            raise past_end(operation, uri, start, end, len(found.data))
        return pa.py_buffer(found.data).slice(start, end - start)

    def _find(self, key: str, operation: str) -> _Object:
        self._check_open(operation)
        uri = self.uri(key)
        found = self._objects.get(check_key(key, operation, uri))
        if found is None:
            raise no_object(operation, uri)
        return found

    def _check_open(self, operation: str) -> None:
        if self._closed:
            raise ClosedError(f"{operation} {self._uri}: the store is closed, expected an open one. Open it again.")

    def __repr__(self) -> str:
        return f"MemoryStore({self._uri.container!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._uri.container, self._objects.copy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _is_below(key: str, directory: str) -> bool:
    return key.startswith(directory) and not key.endswith("/")


class _Sink:
    """Gathers a writer's bytes; publishing is one put."""

    parts = 1

    def __init__(self, store: MemoryStore, key: str) -> None:
        self._store = store
        self._key = key
        self._data = bytearray()

    def write(self, data: bytes | pa.Buffer) -> None:
        self._data += memoryview(data)

    def flush(self) -> None:
        """There is nowhere else to pass it on to."""

    def publish(self) -> ObjectMeta:
        return self._store.put(self._key, self._data)

    def discard(self) -> None:
        self._data = bytearray()


def _restore(name: str, objects: dict[str, _Object]) -> MemoryStore:
    _STORES.setdefault(name, objects)
    return MemoryStore(name)
