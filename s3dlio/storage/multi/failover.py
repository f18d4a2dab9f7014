"""Going on at another endpoint: when, how often, and what is said when none is left.

Owns: the rounds over endpoints, the verdict on each attempt, the error that names them all. Must not know: stores.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import time
from typing import TYPE_CHECKING, TypeVar

import google_crc32c

from s3dlio.errors import ShortReadError, StorageError, StorageTimeoutError, ThrottledError
from s3dlio.storage.protocol import WriteResult
from s3dlio.storage.writer import crc32c_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.multi.balance import Balancer, Ticket
    from s3dlio.storage.protocol import ObjectMeta, ObjectWriter

__all__ = ["GATHERED_BYTES", "Attempt", "EndpointSink", "Failover", "is_answer"]

T = TypeVar("T")

_BASE_S = 0.1
_CAP_S = 5.0
"""Of the pauses, with full jitter, between rounds over all endpoints: as between attempts at a single one."""

GATHERED_BYTES = 8 << 20
"""Of a writer, while any endpoint can still take them. Most of what is written in pieces is smaller: metadata, shards
of text."""


def is_answer(error: BaseException | None) -> bool:
    """Whether the endpoint works: it did what was asked, or says no, and another one would say the same."""
    if error is None or isinstance(error, GeneratorExit):  # a listing that its reader had enough of
        return True
    return isinstance(error, StorageError) and not error.retryable and not isinstance(error, StorageTimeoutError)


class Failover:
    """The way of one verb from endpoint to endpoint.

    First all endpoints once, however long that takes. Then, after a pause, all of them again, while ``max_attempts``
    and ``retry_deadline_s`` allow.

    Args:
        options: with these two, and the endpoints' URLs.
        operation: the verb.
        uri: of the object or prefix.
    """

    def __init__(self, options: StorageOptions, operation: str, uri: str) -> None:
        self.operation = operation
        self.tried: set[int] = set()
        """Endpoints that have failed in this round, by their numbers."""
        self._options = options
        self._uri = uri
        self._errors: dict[int, StorageError] = {}
        self._attempts = 0
        self._rounds = 0
        self._began = time.monotonic()

    def note(self, number: int, error: StorageError) -> None:
        """The endpoint ``number`` has failed."""
        self.tried.add(number)
        self._errors[number] = error
        self._attempts += max(1, error.attempts)

    def pause_s(self) -> float:
        """All have failed: how long to wait before they are tried again.

        Raises:
            StorageError: no further round; it names each endpoint and what became of it there.
        """
        pause_s = random.uniform(0, min(_CAP_S, _BASE_S * 2**self._rounds)) + self._asked_s()  # noqa: S311 - no secret
        late = time.monotonic() - self._began + pause_s >= self._options.retry_deadline_s
        if late or self._attempts >= self._options.max_attempts:
            raise self._error() from self._errors[max(self._errors)]
        self._rounds += 1
        self.tried.clear()
        return pause_s

    def _asked_s(self) -> float:
        """The shortest of the pauses that the endpoints asked for: by then one of them may work."""
        return min((getattr(error, "retry_after_s", None) or 0.0) for error in self._errors.values())

    def _error(self) -> StorageError:
        urls = self._options.endpoint_urls
        said = "; ".join(f"{urls[number]}: {_found(error)}" for number, error in sorted(self._errors.items()))
        kinds = [type(error) for error in self._errors.values()]
        kind = next(
            (one for one in (ThrottledError, StorageTimeoutError, ShortReadError) if one in kinds), StorageError
        )
        error = kind(
            f"{self.operation} {self._uri}: none of {len(urls)} endpoints answered ({said}), expected one. "
            "Check the network and endpoint_urls (S3DLIO_ENDPOINT_URLS).",
            uri=self._uri,
            operation=self.operation,
            attempts=self._attempts,
            retryable=any(error.retryable for error in self._errors.values()),
        )
        if isinstance(error, ThrottledError):
            error.retry_after_s = self._asked_s() or None
        return error


class Attempt:
    """One request to one endpoint. Leaving the block gives the ticket back, with the verdict that its end gives."""

    __slots__ = ("_balancer", "_ticket", "read", "written")

    def __init__(self, balancer: Balancer, ticket: Ticket) -> None:
        self._balancer = balancer
        self._ticket = ticket
        self.read = 0
        self.written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.judge(error)

    def judge(self, error: BaseException | None) -> None:
        """Give the ticket back, for a request that ended with ``error``."""
        if is_answer(error):
            self._balancer.answered(self._ticket, read=self.read, written=self.written)
        elif isinstance(error, StorageError):
            self._balancer.failed(self._ticket)
        else:
            self._balancer.left(self._ticket)


class EndpointSink:
    """A writer's bytes: gathered while they are few, to be sent where an endpoint works; else a writer on one endpoint.

    Args:
        put: sends what was gathered, as one object.
        open_writer: opens a writer on an endpoint that has just answered, and says which: an attempt that goes on
            until the writer ends.
    """

    def __init__(
        self,
        put: Callable[[bytes], ObjectMeta],
        open_writer: Callable[[], tuple[ObjectWriter, Attempt]],
    ) -> None:
        self._put = put
        self._open_writer = open_writer
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self._writer: ObjectWriter | None = None
        self._attempt: Attempt | None = None
        self.parts = 1

    def write(self, data: bytes | pa.Buffer) -> None:
        """As ``Sink.write``."""
        if self._writer is None and self._gathered_bytes + len(data) <= GATHERED_BYTES:
            self._gathered.append(data if isinstance(data, bytes) else data.to_pybytes())
            self._gathered_bytes += len(data)
            return
        writer = self._opened()
        self._judged(lambda: writer.write(data))

    def flush(self) -> None:
        """As ``Sink.flush``. What is gathered stays."""
        if self._writer is not None:
            self._judged(self._writer.flush)

    def publish(self) -> ObjectMeta:
        """As ``Sink.publish``."""
        if self._writer is None:
            data = b"".join(self._gathered)
            meta = self._put(data)
            fields = {field.name: getattr(meta, field.name) for field in dataclasses.fields(meta)}
            return WriteResult(**fields, parts=1, checksum=crc32c_text(google_crc32c.value(data)))
        result = self._judged(self._writer.close)
        self._end(None, result.size)
        return result

    def discard(self) -> None:
        """As ``Sink.discard``."""
        self._gathered.clear()
        if self._writer is not None:
            self._judged(self._writer.abort)
            self._end(None)

    def _opened(self) -> ObjectWriter:
        if self._writer is None:
            self._writer, self._attempt = self._open_writer()
            for piece in self._gathered:
                self._judged(functools.partial(self._writer.write, piece))
            self._gathered.clear()
        return self._writer

    def _judged(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except BaseException as error:
            self._end(error)
            raise

    def _end(self, error: BaseException | None, written: int = 0) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.written = written
            attempt.judge(error)


def _found(error: StorageError) -> str:
    """The middle of the error's sentence: what was found."""
    return str(error).removeprefix(f"{error.operation} {error.uri}: ").partition(", expected")[0]
