"""``native``: S3, Azure and Google through obstore, one request a verb, which is not repeated here.

``requests.remote`` repeats verbs. What takes many requests, so that repeating all of it would be waste, has a client
that repeats them one by one: listings, writers, and puts of more than 16 MiB.

In a process forked from one that had used it every call would hang (``storage.requests.inheritance``); here that is
an error, and ``storage.requests.remote`` turns to the other engine before it comes to that.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
import pyarrow as pa

from s3dlio.errors import AccessError, ClosedError, NotFoundError, OptionError, ShortReadError, StorageError
from s3dlio.storage.arguments import check_mode, check_range, check_size_hint, directory, payload, target
from s3dlio.storage.arrow.filesystem import store_filesystem
from s3dlio.storage.configuration.container import Container
from s3dlio.storage.native.client import make_client
from s3dlio.storage.native.errors import translating_native
from s3dlio.storage.native.writer import MARK, MAX_OBJECT_BYTES, PART_BYTES, MultipartSink
from s3dlio.storage.protocol import ObjectMeta
from s3dlio.storage.requests.inheritance import claim, lost
from s3dlio.storage.translate import changed, naming, past_end, short
from s3dlio.storage.writer import SinkWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import BufferLike, ObjectWriter, PutMode
    from s3dlio.uri import Uri

__all__ = ["NativeStore"]

_CREATE_BYTES = 5 << 30
"""Most bytes of one put. A create is one put: a multipart upload cannot be made to fail on an existing key."""

_COPY_BYTES = 5 << 30
"""Most bytes that S3 copies in one request."""

_DELETES_AT_ONCE = {"s3": 1000, "az": 256}
"""Keys that S3 takes in one DeleteObjects, and Azure in one Blob Batch. Of Google obstore has none."""

_COPY_PIECE_BYTES = 32 << 20
"""What a copy through this machine reads at a time."""


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
        self._single: Any = make_client(uri, options, retries=False)  # here, because it checks the options
        self._repeating: Any = None
        self._closed = False

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
            return self.head_with(client, key)

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``. One request; the buffer is obstore's own memory."""
        with self._verb("get", key) as client:
            result = obstore.get(client, key)
            return self._received("get", key, result, 0, result.meta["size"])

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``. One request; the server checks ``etag``. An empty range is a head."""
        return self._range("get_range", key, start, end, etag)

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``. One request; where nothing lies at ``start``, one more."""
        uri = self.uri(key)
        check_range(start, end, uri)
        if start < end:
            try:
                with self._verb("get", key) as client:
                    result = obstore.get(client, key, options={"range": (start, end)})
                    meta = _meta(key, result.meta)
                    return meta, self._received("get", key, result, start, min(end, meta.size))
            except ShortReadError as error:
                if error.retryable:
                    raise  # a body that broke off; the other one is the refusal of a range without bytes
        with naming("get"):
            meta = self.head(key)
        if start < min(end, meta.size):
            raise changed("get", uri, None)  # it has grown since
        return meta, pa.py_buffer(b"")

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``. obstore cannot receive into foreign memory, so this costs one copy."""
        view = target(buffer, self.uri(key))
        data = self._range("get_into", key, start, start + len(view), etag)
        np.frombuffer(view, np.uint8)[:] = np.frombuffer(data, np.uint8)  # unlike memoryview, without the GIL

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``. One request, or parallel parts above 16 MiB when it may overwrite, and a head for the ETag.

        Those are repeated here, and Ctrl-C aborts them: a store above should leave such a put to itself.

        Raises:
            OptionError: mode is "create" and there are more than 5 GiB, which no provider takes in one request.
        """
        with self._verb("put", key, reading=False, create=mode == "create") as client:
            check_mode(mode, self.uri(key))
            view = payload(data, "put", self.uri(key))
            if mode == "create" or view.size <= PART_BYTES:
                self._check_create(key, view.size)
                return self.put_with(client, key, view, mode=mode)
        sink = MultipartSink(self, key, view.size, put=True)
        with SinkWriter(self.uri(key), sink, checksummed=False) as writer:
            writer.write(view)
        found = writer.close()
        return ObjectMeta(key=key, size=found.size, etag=found.etag, mtime=None)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``. One put up to 16 MiB; parallel parts and a head above.

        Takes up to 80 MiB of memory, and with a ``size_hint`` of more than 160 GB up to 256 MiB, or two parts.
        """
        uri = self.uri(key)
        check_size_hint(size_hint, uri, most=MAX_OBJECT_BYTES)
        with self._verb("open_writer", key, reading=False):
            return SinkWriter(uri, MultipartSink(self, key, size_hint))

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``: one batch a request, in the server's order. ``native.listing`` says what else it asks."""
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

    @property
    def deletes_at_once(self) -> int:
        """Most keys of one ``delete_many``; 1 where obstore would send a request each."""
        return _DELETES_AT_ONCE.get(self._uri.scheme, 1)

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove objects in one request; see ``storage.delete``. A failure names the first key, whichever it was."""
        for key in keys:
            self._container.check(key, "delete", reading=False)
        with self._verb("delete", keys[0], reading=False) as client:
            obstore.delete(client, [*keys])

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``. On the server; where it refuses an object of more than 5 GiB, through this machine.

        That takes the memory of a writer, and fails with PreconditionError if the source is overwritten meanwhile.
        """
        self._container.check(target, "copy", reading=False)
        try:
            with self._verb("copy", source) as client:
                obstore.copy(client, source, target)
        except StorageError as error:
            if error.retryable or isinstance(error, NotFoundError | AccessError):
                raise
            with naming("copy"):
                meta = self.head(source)
            if meta.size <= _COPY_BYTES:
                raise
            self._copy_through(meta, target)

    def close(self) -> None:
        """Drop the clients. obstore closes their connections when the last request ends."""
        self._closed = True
        self._single = self._repeating = None

    @contextlib.contextmanager
    def writing(self, operation: str, key: str) -> Iterator[Any]:
        """For the writer: the client that repeats requests, with errors translated."""
        if operation == "abort":  # an upload has its own client, and is aborted after the store was closed, too
            with translating_native(operation, self.uri(key), self._container):
                yield None
            return
        with self._verb(operation, key, reading=False):
            yield self._client(repeating=True)

    def head_with(self, client: Any, key: str) -> ObjectMeta:
        """For the writer: a head through ``client``."""
        return _meta(key, obstore.head(client, key))

    def head_marked(self, key: str) -> tuple[ObjectMeta, str | None]:
        """For the writer: a head, and the mark that its upload gave the object."""
        with self._verb("head", key) as client:
            found = obstore.get(client, key, options={"head": True})
            return _meta(key, found.meta), found.attributes.get(MARK)

    def put_with(self, client: Any, key: str, data: pa.Buffer, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """One put through ``client``."""
        view = memoryview(data).cast("B")  # obstore takes unsigned bytes only
        return _stored(key, data.size, obstore.put(client, key, view, mode=mode, use_multipart=False))

    def _check_create(self, key: str, size: int) -> None:
        if size > _CREATE_BYTES:
            raise OptionError(
                f"put {self.uri(key)}: got {size} bytes, expected {_CREATE_BYTES} at most with mode='create', which is "
                "one request. Write it under a key of its own with mode='overwrite'.",
                field="mode",
            )

    def _copy_through(self, meta: ObjectMeta, target: str) -> None:
        with self.open_writer(target, size_hint=meta.size) as writer:
            for start in range(0, meta.size, _COPY_PIECE_BYTES):
                end = min(start + _COPY_PIECE_BYTES, meta.size)
                writer.write(self._range("copy", meta.key, start, end, meta.etag, repeating=True))

    def _range(
        self, operation: str, key: str, start: int, end: int, etag: str | None, *, repeating: bool = False
    ) -> pa.Buffer:
        uri = self.uri(key)
        check_range(start, end, uri)
        if start == end:  # obstore refuses empty ranges, but version and size are still to be checked
            with naming(operation):
                meta = self.head(key)
            if etag is not None and meta.etag != etag:
                raise changed(operation, uri, etag)
            if end > meta.size:
                raise past_end(operation, uri, start, end, meta.size)
            return pa.py_buffer(b"")
        options: obstore.GetOptions = {"range": (start, end)}
        if etag is not None:
            options["if_match"] = f'"{etag}"'
        with self._verb(operation, key, etag=etag):
            client = self._client(repeating=repeating)
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
        from s3dlio.storage.native.listing import listed  # noqa: PLC0415 - pyarrow.compute takes 27 ms to import

        uri = self.uri(below)
        batches: Iterator[pa.RecordBatch] | None = None
        while True:
            with translating_native("list", uri, self._container):
                self._check_usable("list", uri)
                batches = batches or listed(self._client(repeating=True), below)
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    @contextlib.contextmanager
    def _verb(
        self, operation: str, key: str, *, reading: bool = True, etag: str | None = None, create: bool = False
    ) -> Iterator[Any]:
        """The client, with the arguments checked and errors translated."""
        uri = self._container.uri(key)
        self._check_usable(operation, uri)
        self._container.check(key, operation, reading=reading)
        with translating_native(operation, uri, self._container, etag=etag, create=create):
            client = self._client(repeating=False)
            if client is None:  # another thread closes the store
                self._check_usable(operation, uri)
            yield client

    def _client(self, *, repeating: bool) -> Any:
        """One of the two clients. Two threads may make the second one at a time; both work."""
        if not repeating:
            return self._single
        if self._repeating is None:
            self._repeating = make_client(self._uri, self._options, retries=True)
        return self._repeating

    def _check_usable(self, operation: str, uri: str) -> None:
        if self._closed:
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


def _meta(key: str, found: Any) -> ObjectMeta:
    return ObjectMeta(key=key, size=found["size"], etag=_unquoted(found["e_tag"]), mtime=found["last_modified"])


def _stored(key: str, size: int, said: Any) -> ObjectMeta:
    return ObjectMeta(key=key, size=size, etag=_unquoted(said["e_tag"]), mtime=None)


def _unquoted(etag: str | None) -> str | None:
    return None if etag is None else etag.removeprefix('"').removesuffix('"')
