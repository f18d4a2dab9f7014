"""The verbs of an object on a web server, one attempt each. ``http.HttpStore`` repeats them.

Owns: which request a verb is, and what its answer must be to be believed. Must not know: sockets
(``http.connections``), headers (``http.answer``), errors (``http.failure``), when to try again (``requests.policy``).

Guarantees:
- every length is checked: against the range that was asked for, the one that was answered, and what came
- a server that ignores ``Range`` gives right bytes, by reading from the object's start; that is said in one warning
- a version that was asked for is checked in the answer, also where a server ignores ``If-Match``
"""

from __future__ import annotations

import contextlib
import http.client
import warnings
from typing import TYPE_CHECKING, Never

import pyarrow as pa

from s3dlio.errors import ClosedError, OptionError, StorageError
from s3dlio.storage.arguments import check_range, target
from s3dlio.storage.arrow.filesystem import store_filesystem
from s3dlio.storage.configuration.container import Container
from s3dlio.storage.http import answer as http_answer
from s3dlio.storage.http.connections import Connections, RedirectError, Url
from s3dlio.storage.http.failure import broken, cut, endless, read_only, refused, strange
from s3dlio.storage.protocol import ObjectMeta
from s3dlio.storage.translate import changed, naming, past_end, short

if TYPE_CHECKING:
    from collections.abc import Iterator
    from http.client import HTTPResponse
    from typing import Self

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import BufferLike, ObjectWriter, PutMode
    from s3dlio.uri import Uri

__all__ = ["HttpEngine", "RangeIgnoredWarning"]

_SKIP_BYTES = 1 << 20

_NO_HEAD = frozenset({200, 400, 403, 405, 501})
"""Answers to a HEAD after which a GET may do: no size, a signature for GET only, no such method."""


class RangeIgnoredWarning(RuntimeWarning):
    """A web server sends whole objects where parts were asked for: reading parts is slow."""


class HttpEngine:
    """One web server, in one process.

    Args:
        uri: of the server; its key plays no part.
        options: timeouts and certificates.
    """

    atomic_create = False

    def __init__(self, uri: Uri, options: StorageOptions) -> None:
        self._uri = uri.with_key("")
        root = self._uri.masked().rstrip("/")
        self._container = Container(root, uri.container.rpartition("@")[2], root)
        self._connections = Connections(options)
        self._warned = False
        self._closed = False
        Url.parse(str(self._uri))  # a host that is none is refused here, and not by every verb

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.PyFileSystem`` over this store, to read from."""
        return store_filesystem(self)

    def path(self, key: str) -> str:
        """The key itself."""
        return key

    def uri(self, key: str) -> str:
        """The whole URL, as it was typed."""
        return str(self._uri.with_key(key))

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``. A HEAD; where the server or a presigned URL allows none, a GET of one byte."""
        with self._verb("head", key):
            with self._answer("HEAD", key) as answer:
                answer.read()  # nothing, but it ends the answer
                size = answer.getheader("Content-Length", "")
                if answer.status == 200 and size.isdecimal():
                    return self._meta(key, answer, int(size))
                if answer.status not in _NO_HEAD:
                    raise refused(answer, "head", self._shown(key), self._container)
            with self._answer("GET", key, {"Range": "bytes=0-0"}) as answer:
                total = self._total("head", key, answer)
                return self._meta(key, answer, total)

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``. One request."""
        with self._verb("get", key), self._answer("GET", key) as answer:
            if answer.status != 200:
                raise refused(answer, "get", self._shown(key), self._container)
            return self._body("get", key, answer)

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``. One request."""
        check_range(start, end, self._shown(key))
        if start == end:
            self._check_empty("get_range", key, start, etag)
            return pa.py_buffer(b"")
        return pa.py_buffer(self._part("get_range", key, start, end, etag).toreadonly())

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``. One request, whose bytes the kernel writes into ``buffer``."""
        view = target(buffer, self._shown(key))
        check_range(start, start + len(view), self._shown(key))
        if len(view):
            self._part("get_into", key, start, start + len(view), etag, into=view)
        else:
            self._check_empty("get_into", key, start, etag)

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``. One request; one more if nothing lies at ``start``."""
        check_range(start, end, self._shown(key))
        found = self._clipped(key, start, end) if start < end else None
        if found is not None:
            return found
        with naming("get"):
            meta = self.head(key)
        if start < min(end, meta.size):  # it grew in between
            raise changed("get", self._shown(key), None)
        return meta, pa.py_buffer(b"")

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:  # noqa: ARG002 - the protocol's
        """Refused: a web server is read-only."""
        self._refuse("put", key)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:  # noqa: ARG002 - the protocol's
        """Refused: a web server is read-only."""
        self._refuse("open_writer", key)

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """Refused: a web server has no listing."""
        self._refuse("list", prefix)

    def delete(self, key: str) -> None:
        """Refused: a web server is read-only."""
        self._refuse("delete", key)

    def copy(self, source: str, target: str) -> None:  # noqa: ARG002 - the protocol's
        """Refused: a web server is read-only."""
        self._refuse("copy", target)

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._connections.close()

    def _part(
        self, operation: str, key: str, start: int, end: int, etag: str | None, into: memoryview | None = None
    ) -> memoryview:
        """Bytes [start, end), in new memory unless there is some. None is taken before the server says it has them."""
        uri = self._shown(key)
        with self._verb(operation, key), self._answer("GET", key, _asked(start, end, etag)) as answer:
            if answer.status not in {200, 206}:
                raise refused(answer, operation, uri, self._container, etag=etag, start=start, end=end)
            self._check_version(operation, key, answer, etag)
            if answer.status == 200:
                self._skip(operation, key, answer, start, end)
            else:
                found = self._checked_range(operation, key, answer, start, end)
                if found.end < end and found.total in {None, found.end}:
                    raise past_end(operation, uri, start, end, found.end)
                if found.end < end:
                    raise short(operation, uri, start, end, found.end - found.start)
            view = memoryview(pa.allocate_buffer(end - start)).cast("B") if into is None else into
            if (got := http_answer.read_into(answer, view)) < len(view):
                raise cut(answer, operation, uri, start, end, got)
            return view

    def _clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer] | None:
        with self._verb("get", key), self._answer("GET", key, _asked(start, end, None)) as answer:
            if answer.status == 416:
                return None
            if answer.status not in {200, 206}:
                raise refused(answer, "get", self._shown(key), self._container)
            if answer.status == 200:
                if answer.length is None:
                    data = self._body("get", key, answer)
                    return self._meta(key, answer, data.size), data[start : min(end, data.size)]
                total = answer.length
                if total <= start:
                    return None
                end = min(end, total)
                self._skip("get", key, answer, start, end)
            else:
                found = self._checked_range("get", key, answer, start, end)
                if found.total is None or found.end != min(end, found.total):
                    raise short("get", self._shown(key), start, end, found.end - found.start)
                total, end = found.total, found.end
            view = memoryview(pa.allocate_buffer(end - start)).cast("B")
            if (got := http_answer.read_into(answer, view)) < len(view):
                raise short("get", self._shown(key), start, end, got)
            return self._meta(key, answer, total), pa.py_buffer(view.toreadonly())

    def _body(self, operation: str, key: str, answer: HTTPResponse) -> pa.Buffer:
        """All of a body, in memory of its length."""
        uri = self._shown(key)
        if answer.length is None:
            data = http_answer.read_pieces(answer)
            if data is None:
                raise endless(operation, uri)
            return data
        length = answer.length
        view = memoryview(pa.allocate_buffer(length)).cast("B")
        if (got := http_answer.read_into(answer, view)) < length:
            raise short(operation, uri, 0, length, got)
        return pa.py_buffer(view.toreadonly())

    def _skip(self, operation: str, key: str, answer: HTTPResponse, start: int, end: int) -> None:
        """Go to ``start`` in a whole object that came where a part was asked for."""
        uri = self._shown(key)
        if answer.length is None and not answer.chunked:
            raise endless(operation, uri)
        if answer.length is not None and answer.length < end:
            raise past_end(operation, uri, start, end, answer.length)
        if start and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._container.root} ignores Range: to read a part, the object is transferred from its start. "
                "Read whole objects from this server, or copy them to a store first.",
                RangeIgnoredWarning,
                stacklevel=2,
            )
        scratch = memoryview(bytearray(min(start, _SKIP_BYTES)))
        left = start
        while left:
            count = http_answer.read_into(answer, scratch[: min(left, len(scratch))])
            if count == 0:
                raise cut(answer, operation, uri, start, end, -left)
            left -= count

    def _checked_range(
        self, operation: str, key: str, answer: HTTPResponse, start: int, end: int
    ) -> http_answer.ContentRange:
        found = http_answer.content_range(answer)
        if (
            found is None
            or found.start != start
            or found.end > end
            or answer.length not in {None, found.end - found.start}
        ):
            raise strange(
                operation,
                self._shown(key),
                f"got the range {answer.getheader('Content-Range')!r}",
                f"'bytes {start}-{end - 1}/*'",
            )
        return found

    def _check_empty(self, operation: str, key: str, start: int, etag: str | None) -> None:
        with naming(operation):
            meta = self.head(key)
        if etag is not None and meta.etag != etag:
            raise changed(operation, self._shown(key), etag)
        if start > meta.size:
            raise past_end(operation, self._shown(key), start, start, meta.size)

    def _check_version(self, operation: str, key: str, answer: HTTPResponse, etag: str | None) -> None:
        if etag is not None and http_answer.etag_of(answer) != etag:
            raise changed(operation, self._shown(key), etag)

    def _total(self, operation: str, key: str, answer: HTTPResponse) -> int:
        """The object's size from the answer to a range of one byte."""
        found = http_answer.content_range(answer)
        if answer.status in {206, 416} and found is not None and found.total is not None:
            return found.total
        if answer.status == 200 and answer.length is not None:
            return answer.length
        if answer.status not in {200, 206}:
            raise refused(answer, operation, self._shown(key), self._container)
        raise strange(operation, self._shown(key), "the server announces no size", "Content-Length or Content-Range")

    def _meta(self, key: str, answer: HTTPResponse, size: int) -> ObjectMeta:
        return ObjectMeta(key=key, size=size, etag=http_answer.etag_of(answer), mtime=http_answer.mtime_of(answer))

    @contextlib.contextmanager
    def _answer(self, method: str, key: str, headers: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
        with self._connections.answer(method, Url.parse(self.uri(key)), headers or {}) as answer:
            yield answer

    @contextlib.contextmanager
    def _verb(self, operation: str, key: str) -> Iterator[None]:
        """Check the state, and translate what the network does."""
        uri = self._shown(key)
        if self._closed:
            raise ClosedError(f"{operation} {uri}: the store is closed, expected an open one. Open it again.")
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in key):
            raise OptionError(f"{operation} {uri!r}: found control characters, expected a URL without.", field="key")
        try:
            yield
        except StorageError:
            raise
        except (OSError, http.client.HTTPException, RedirectError) as error:
            raise broken(error, operation, uri, self._container) from error

    def _refuse(self, operation: str, key: str) -> Never:
        uri = self._shown(key)
        if self._closed:
            raise ClosedError(f"{operation} {uri}: the store is closed, expected an open one. Open it again.")
        raise read_only(operation, uri)

    def _shown(self, key: str) -> str:
        return self._uri.with_key(key).masked()

    def __repr__(self) -> str:
        return f"HttpEngine({self._uri.masked()!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _asked(start: int, end: int, etag: str | None) -> dict[str, str]:
    """Headers that ask for a range of a version. A weak mark is left out: it would never match."""
    headers = {"Range": f"bytes={start}-{end - 1}"}
    if etag is not None and not etag.startswith("W/"):
        headers["If-Match"] = f'"{etag}"'
    return headers
