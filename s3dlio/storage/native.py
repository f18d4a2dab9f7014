"""``native``: S3, Azure and Google through obstore, one request a verb.

In a process forked from one that had used it every call would hang (``storage.inheritance``); here that is
an error, and ``storage.remote`` turns to the other engine before it comes to that.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
import pyarrow as pa

from s3dlio.errors import ClosedError, NotFoundError, StorageError
from s3dlio.storage.arguments import check_range, directory, payload, target
from s3dlio.storage.container import Container
from s3dlio.storage.filesystem import store_filesystem
from s3dlio.storage.inheritance import claim, lost
from s3dlio.storage.listing import columns
from s3dlio.storage.native_client import make_client
from s3dlio.storage.native_errors import translating_native
from s3dlio.storage.protocol import ObjectMeta
from s3dlio.storage.translate import changed, past_end, short
from s3dlio.storage.writer import SinkWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from s3dlio.storage.options import StorageOptions
    from s3dlio.storage.protocol import BufferLike, ObjectWriter, PutMode
    from s3dlio.uri import Uri

__all__ = ["NativeStore"]

_PART_BYTES = 16 << 20
"""Part of a multipart upload. A writer does not know how many will come, so its object may have 160 GB."""

_MAX_PARTS = 10_000
"""What S3 allows."""

_PARTS_IN_FLIGHT = 4
"""What a writer sends at a time; bounds its memory to 64 MiB and the part being filled."""

_LIST_ROWS = 1000
"""Keys in one answer of every provider, so one batch is one request."""


class NativeStore:
    """One container through obstore. Most callers want ``open_store``, which survives a fork.

    Args:
        uri: of the container; its key plays no part.
        options: how to reach it.

    Raises:
        OptionError: obstore refuses the options.
    """

    atomic_create = True

    def __init__(self, uri: Uri, options: StorageOptions) -> None:
        self._uri = uri.with_key("")
        self._options = options
        self._container = Container.of(uri, options)
        self._client: Any = make_client(uri, options)

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.PyFileSystem`` over this store."""
        return store_filesystem(self)

    def path(self, key: str) -> str:
        """The key itself."""
        return key

    def uri(self, key: str) -> str:
        """``scheme://container/key``."""
        return self._container.uri(key)

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``."""
        with self._verb("head", key) as client:
            return _meta(key, obstore.head(client, key))

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``. One request; the buffer is obstore's own memory."""
        with self._verb("get", key) as client:
            result = obstore.get(client, key)
            return self._received("get", key, result, 0, result.meta["size"])

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``. One request; the server checks ``etag``. An empty range is a head."""
        return self._range("get_range", key, start, end, etag)

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``. obstore cannot receive into foreign memory, so this costs one copy."""
        view = target(buffer, self.uri(key))
        data = self._range("get_into", key, start, start + len(view), etag)
        np.frombuffer(view, np.uint8)[:] = np.frombuffer(data, np.uint8)  # unlike memoryview, without the GIL

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``. One request, or parallel parts above 16 MiB when it may overwrite.

        S3 takes up to 5 GiB in one request, and so with ``mode="create"``.
        """
        with self._verb("put", key, reading=False, create=mode == "create") as client:
            view = payload(data, "put", self.uri(key))
            result = obstore.put(
                client,
                key,
                memoryview(view).cast("B"),  # obstore takes unsigned bytes only
                mode=mode,
                use_multipart=None if mode == "overwrite" else False,
                chunk_size=max(_PART_BYTES, -(-view.size // _MAX_PARTS)),
                max_concurrency=_PARTS_IN_FLIGHT,
            )
            return ObjectMeta(key=key, size=view.size, etag=_unquoted(result["e_tag"]), mtime=None)

    def open_writer(self, key: str) -> ObjectWriter:
        """As ``Store.open_writer``. One put up to 16 MiB, parts of 16 MiB and a head above."""
        with self._verb("open_writer", key, reading=False):
            return SinkWriter(self.uri(key), _Sink(self, key))

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``: one batch a request, in the server's order.

        obstore shows a directory marker as an object without its slash, so each zero-byte object costs a head.
        """
        self._check_usable("list", self.uri(prefix))
        return self._list(directory(prefix, self.uri(prefix)))

    def delete(self, key: str) -> None:
        """As ``Store.delete``."""
        with self._verb("delete", key, reading=False) as client:
            try:
                obstore.delete(client, key)
            except FileNotFoundError as error:
                with translating_native("delete", self.uri(key), self._container):
                    if "ontainer" in str(error) or "NoSuchBucket" in str(error):
                        raise

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``. On the server; S3 copies up to 5 GiB so."""
        self._container.check(target, "copy", reading=False)
        with self._verb("copy", source) as client:
            obstore.copy(client, source, target)

    def close(self) -> None:
        """Drop the client. obstore closes its connections when the last request ends."""
        self._client = None

    def _range(self, operation: str, key: str, start: int, end: int, etag: str | None) -> pa.Buffer:
        uri = self.uri(key)
        check_range(start, end, uri)
        if start == end:  # obstore refuses empty ranges, but version and size are still to be checked
            meta = self.head(key)
            if etag is not None and meta.etag != etag:
                raise changed(operation, uri, etag)
            if end > meta.size:
                raise past_end(operation, uri, start, end, meta.size)
            return pa.py_buffer(b"")
        options: obstore.GetOptions = {"range": (start, end)}
        if etag is not None:
            options["if_match"] = f'"{etag}"'
        with self._verb(operation, key, etag=etag) as client:
            return self._received(operation, key, obstore.get(client, key, options=options), start, end)

    def _received(self, operation: str, key: str, result: Any, start: int, end: int) -> pa.Buffer:
        size = result.meta["size"]
        if end > size:
            raise past_end(operation, self.uri(key), start, end, size)
        data = result.bytes()
        if len(data) != end - start:
            raise short(operation, self.uri(key), start, end, len(data))
        return pa.py_buffer(data)

    def _list(self, below: str) -> Iterator[pa.RecordBatch]:
        uri = self.uri(below)
        empty: set[str] = set()
        with translating_native("list", uri, self._container):
            self._check_usable("list", uri)
            pages = obstore.list(self._client, below or None, chunk_size=_LIST_ROWS)
        while True:
            with translating_native("list", uri, self._container):
                self._check_usable("list", uri)
                page = next(pages, None)
            if page is None:
                return
            rows = [
                row for row in page if row["path"].startswith(below) and (row["size"] or self._is_object(row, empty))
            ]
            if rows:
                yield columns(
                    [row["path"] for row in rows],
                    [row["size"] for row in rows],
                    [_unquoted(row["e_tag"]) for row in rows],
                    [row["last_modified"] for row in rows],
                )

    def _is_object(self, row: Any, seen: set[str]) -> bool:
        """Whether a zero-byte row is an object "d" and not the directory marker "d/", which looks the same."""
        key = row["path"]
        if key in seen:
            return False
        seen.add(key)
        try:
            return self.head(key).size == 0
        except NotFoundError:
            return False

    @contextlib.contextmanager
    def _verb(
        self, operation: str, key: str, *, reading: bool = True, etag: str | None = None, create: bool = False
    ) -> Iterator[Any]:
        """The client, with the arguments checked and errors translated."""
        uri = self._container.uri(key)
        self._check_usable(operation, uri)
        self._container.check(key, operation, reading=reading)
        with translating_native(operation, uri, self._container, etag=etag, create=create):
            yield self._client

    def _check_usable(self, operation: str, uri: str) -> None:
        if self._client is None:
            raise ClosedError(f"{operation} {uri}: the store is closed, expected an open one. Open it again.")
        if lost("native"):
            raise StorageError(
                f"{operation} {uri}: the native engine was used before this process was forked and would hang, "
                "expected the arrow engine here. Use open_store, which switches, or backend='arrow'.",
                uri=uri,
                operation=operation,
                attempts=0,
            )
        claim("native")

    def __repr__(self) -> str:
        return f"NativeStore({str(self._uri)!r}, {self._options!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return NativeStore, (self._uri, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Sink:
    """A writer's bytes: gathered up to one part, and from there on a multipart upload."""

    def __init__(self, store: NativeStore, key: str) -> None:
        self._store = store
        self._key = key
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._upload: Any = None

    def write(self, data: bytes | pa.Buffer) -> None:
        # obstore's writer keeps a reference to the memory until the part is sent, so what the caller may
        # change is copied here.
        stable = data if isinstance(data, bytes) else data.to_pybytes()
        with self._store._verb("write", self._key, reading=False) as client:  # noqa: SLF001 - one module
            if self._upload is None and self._gathered_bytes + len(stable) <= _PART_BYTES:
                self._gathered.append(stable)
                self._gathered_bytes += len(stable)
                return
            if self._upload is None:
                self._upload = obstore.open_writer(
                    client, self._key, buffer_size=_PART_BYTES, max_concurrency=_PARTS_IN_FLIGHT
                )
                for piece in self._gathered:
                    self._upload.write(piece)
                self._gathered.clear()
            self._upload.write(stable)

    def publish(self) -> ObjectMeta:
        if self._upload is None:
            return self._store.put(self._key, b"".join(self._gathered))
        with self._store._verb("close", self._key, reading=False):  # noqa: SLF001 - one module
            self._upload.close()
        return self._store.head(self._key)

    def discard(self) -> None:
        self._gathered.clear()
        if self._upload is not None and not self._upload.closed():
            with self._store._verb("abort", self._key, reading=False):  # noqa: SLF001 - one module
                # Left by an exception, obstore's writer aborts the upload; dropped, it would leave the parts there.
                self._upload.__exit__(RuntimeError, RuntimeError("aborted"), None)


def _meta(key: str, found: Any) -> ObjectMeta:
    return ObjectMeta(key=key, size=found["size"], etag=_unquoted(found["e_tag"]), mtime=found["last_modified"])


def _unquoted(etag: str | None) -> str | None:
    return None if etag is None else etag.removeprefix('"').removesuffix('"')
