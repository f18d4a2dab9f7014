"""A writer's bytes on their way to a server through obstore: one put, or a multipart upload of parallel parts.

Must not know: what a writer may do when (``writer``).

What obstore's own writer does (0.12, counted at a server), and what is made of it here:
- it waits until fewer than ``max_concurrency`` parts are on their way, and then takes a piece of any size at once:
  pieces are cut to parts here, or one large piece would have all of its parts in flight
- it keeps a reference to the memory it is given until the part is sent: what the caller may change is copied here
- its part size is fixed: an object of more than 10,000 parts fails here at the byte that is too many, long before
  the server would say so
- ``close`` aborts the upload itself when a part or the completion fails; a failure that ``write`` meets does not,
  and neither does dropping it
- where the completion's answer is lost it aborts as well, and raises what the server says to that ("no such upload"):
  so each upload carries a mark in the object's metadata, and who finds it there has published
- each part is signed with its SHA-256, which the server checks against what it received
- its calls cannot be interrupted: in the main thread they are made on another one, which Ctrl-C leaves
"""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import obstore
import pyarrow as pa

from s3dlio.concurrency import Detached, Race, in_main_thread
from s3dlio.errors import AccessError, NotFoundError, StorageError
from s3dlio.storage.protocol import ObjectMeta

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

T = TypeVar("T")

__all__ = ["MARK", "MAX_OBJECT_BYTES", "MAX_PARTS", "PARTS_IN_FLIGHT", "PART_BYTES", "MultipartSink", "part_size"]

PART_BYTES = 16 << 20
"""Smallest part of a multipart upload, and the most that is sent as one put. 16 MiB keeps a request's latency small
beside its transfer; 10,000 of them make an object of 160 GB."""

MAX_PARTS = 10_000
"""What S3 and Google allow; Azure allows more."""

MAX_OBJECT_BYTES = MAX_PARTS * (5 << 30)
"""Parts of 5 GiB, the most that S3 takes. Its own limit of an object is lower and the server's to say."""

PARTS_IN_FLIGHT = 4
"""Parts on their way at a time."""

_IN_FLIGHT_BYTES = 256 << 20
"""Most memory of parts on their way, as long as that is two parts: larger parts go one by one."""

_ABORT_S = 0.5
"""How long an abort waits after Ctrl-C, for the server, and before it for a call that was left, which keeps the upload
to itself. Then the abort is left, too, and goes on, if the process lives so long."""

MARK = "s3dlioupload"
"""Name of the mark: letters only, because Azure takes no hyphens and proxies drop headers with underscores. The
multipart ETag would tell as well, but only S3 has it, and the MD5 of all parts costs 1.5 s a GB."""

_GATHERED_BYTES = 1 << 20
"""Smaller pieces are gathered to this size, so that a part is not made of thousands."""


class _Engine(Protocol):
    """What the sink needs of its store."""

    def writing(self, operation: str, key: str) -> AbstractContextManager[Any]:
        """The client that repeats its requests; errors are translated."""

    def uri(self, key: str) -> str:
        """The full URI."""

    def put_with(self, client: Any, key: str, data: pa.Buffer) -> ObjectMeta:
        """One put through ``client``."""

    def head_with(self, client: Any, key: str) -> ObjectMeta:
        """One head through ``client``."""

    def head_marked(self, key: str) -> tuple[ObjectMeta, str | None]:
        """One head, not repeated, and the object's mark."""


def part_size(size: int | None) -> int:
    """Bytes of a part for an object of about ``size`` bytes: whole MiB, so that 10,000 of them hold it."""
    mebibytes = -(-(size or 0) // (MAX_PARTS << 20))
    return max(PART_BYTES, mebibytes << 20)


class MultipartSink:
    """The ``Sink`` of the native engine. Takes up to (parts in flight + 1) x part and 1 MiB of memory.

    Args:
        engine: the store.
        key: the object.
        size_hint: about how many bytes will come.
        put: it is for a put: errors say so, and memory is copied only where the call may be left before its end.
    """

    def __init__(self, engine: _Engine, key: str, size_hint: int | None, *, put: bool = False) -> None:
        self._engine = engine
        self._key = key
        self._part_bytes = part_size(size_hint)
        self._in_flight = max(1, min(PARTS_IN_FLIGHT, _IN_FLIGHT_BYTES // self._part_bytes))
        self._put = put
        self._gathered = bytearray()
        self._size = 0
        self._upload: Any = None
        self._mark = secrets.token_hex(12)
        self._threads = Detached("write")
        self._interrupted = False

    @property
    def parts(self) -> int:
        """1, or the parts of the upload."""
        return 1 if self._upload is None else -(-self._size // self._part_bytes)

    def write(self, data: bytes | pa.Buffer) -> None:
        """Gather ``data``, or pass it on. Blocks while the most parts are on their way."""
        view = memoryview(data).cast("B")
        self._check_size(len(view))
        with self._engine.writing(self._operation("write"), self._key) as client:
            self._size += len(view)
            limit = self._part_bytes if self._upload is None else _GATHERED_BYTES
            if len(self._gathered) + len(view) <= limit:
                self._gathered += view
                return
            if self._upload is None:
                self._upload = obstore.open_writer(
                    client,
                    self._key,
                    attributes={MARK: self._mark},
                    buffer_size=self._part_bytes,
                    max_concurrency=self._in_flight,
                )
            self._pass_on_gathered()
            # Ctrl-C leaves a put that may still complete, and its caller may change what he put.
            left = in_main_thread() and not view.readonly
            stable = isinstance(data, bytes) or (self._put and not left)
            for start in range(0, len(view), self._part_bytes):
                piece = view[start : start + self._part_bytes]
                self._pass_on(piece if stable else bytes(piece))

    def flush(self) -> None:
        """Pass on what is gathered, once an upload is under way. A part that is not full stays here."""
        if self._upload is not None:
            with self._engine.writing(self._operation("flush"), self._key):
                self._pass_on_gathered()

    def publish(self) -> ObjectMeta:
        """One put of what is gathered; or the last part, the completion, and a head for the ETag."""
        with self._engine.writing(self._operation("close"), self._key) as client:
            if self._upload is None:
                data = pa.py_buffer(self._gathered)
                put = self._interruptible(lambda: self._engine.put_with(client, self._key, data))
                self._threads.close()
                return put
            self._pass_on_gathered()
        try:
            with self._engine.writing(self._operation("close"), self._key):
                self._interruptible(self._upload.close)
        except AccessError:
            raise  # refused, so not done
        except StorageError as error:
            published = self._published_after_all(error)
        else:
            published = self._published()
        self._threads.close()
        return published

    def discard(self) -> None:
        """Abort the upload, if there is one."""
        self._gathered = bytearray()
        # Ctrl-C may also have come between two calls.
        hurried = self._interrupted or isinstance(sys.exception(), KeyboardInterrupt)
        try:
            # Asked of an upload that a call was left in, closed() would wait for that.
            if self._upload is not None and (self._interrupted or not self._upload.closed()):
                with self._engine.writing("abort", self._key):
                    self._interruptible(self._abort, _ABORT_S if hurried else None)
        finally:
            self._threads.close()

    def _abort(self) -> None:
        if not self._upload.closed():
            self._upload.__exit__(RuntimeError, RuntimeError("aborted"), None)  # what a ``with`` does on an error

    def _operation(self, name: str) -> str:
        return "put" if self._put else name

    def _pass_on_gathered(self) -> None:
        if self._gathered:
            # A new bytearray and not clear(): obstore has the memory of this one.
            gathered, self._gathered = self._gathered, bytearray()
            self._pass_on(gathered)

    def _pass_on(self, data: bytes | bytearray | memoryview) -> None:
        self._interruptible(lambda: self._upload.write(data))

    def _interruptible(self, call: Callable[[], T], limit_s: float | None = None) -> T:
        """The result of ``call``, which Ctrl-C leaves behind, and the end of ``limit_s``."""
        if not in_main_thread():
            return call()
        with Race[T](self._threads) as race:
            race.start(call)
            try:
                answer = race.next(limit_s)
            except BaseException:
                self._interrupted = True
                raise
            if answer is None:
                uri = self._engine.uri(self._key)
                raise StorageError(
                    f"abort {uri}: what was on its way did not arrive within {limit_s} s, expected an answer. Parts of "
                    "the upload may stay on the server; its lifecycle rules remove them.",
                    uri=uri,
                    operation="abort",
                )
            return answer.result()

    def _published(self) -> ObjectMeta:
        """What the store says of the object now; obstore does not hand on the completion's answer."""
        mine = ObjectMeta(key=self._key, size=self._size, etag=None, mtime=None)
        try:
            with self._engine.writing("head", self._key) as client:
                found = self._interruptible(lambda: self._engine.head_with(client, self._key))
        except StorageError:
            # The object is published, so this may not fail: some may write and not read, and somebody else may have
            # deleted it. Its ETag is then unknown.
            return mine
        return found if found.size == self._size else mine  # of another size, it is another writer's by now

    def _published_after_all(self, error: StorageError) -> ObjectMeta:
        """What is there, if it is this upload's; else ``error`` is raised, with what can be said of it."""
        gone = isinstance(error, NotFoundError) and "no such object" in str(error)  # the abort met no upload any more
        said = ""
        try:
            found, mark = self._interruptible(lambda: self._engine.head_marked(self._key))
        except NotFoundError:
            if gone:
                said = " No object came of it; a lifecycle rule may have aborted it. Write it again."
        except StorageError as second:
            said = (
                " The answer may be lost, and the object visible and complete: the request that looks for it failed, "
                f"too ({type(second).__name__})."
            )
        else:
            if mark == self._mark:
                return found
            said = " The object that is visible under the key is another one."
            if mark is None and found.size == self._size:
                said = (
                    " An object of this size is visible under the key, and may be this one, complete: it has no "
                    "metadata that would tell. Compare it before writing again."
                )
        if gone:
            raise StorageError(
                f"{error.operation} {error.uri}: the upload is gone, expected it to be published.{said}",
                uri=error.uri,
                operation=error.operation,
            ) from error
        error.args = (f"{error}{said}",)
        raise error

    def _check_size(self, more: int) -> None:
        most = self._part_bytes * MAX_PARTS
        if self._size + more > most:
            uri, operation = self._engine.uri(self._key), self._operation("write")
            raise StorageError(
                f"{operation} {uri} at {self._size}: got {more} bytes more, expected {most} at most in {MAX_PARTS} "
                f"parts of {self._part_bytes >> 20} MiB. Pass size_hint=, about the object's size, for larger parts.",
                uri=uri,
                operation=operation,
                attempts=0,
            )
