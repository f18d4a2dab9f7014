"""Ordered reading of many objects or ranges under a byte budget.

Owns: what is in flight, and the memory that bytes land in. Must not know: formats, samples, epochs.
Large ranges are read as parallel parts of one version straight into one buffer; small ones as one request
whose buffer is passed on as it came.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from s3dlio.arrays import allocate
from s3dlio.concurrency import Lock, ReadAhead
from s3dlio.errors import ClosedError, OptionError, PreconditionError
from s3dlio.reading.plan import part_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from s3dlio.storage.protocol import Store

__all__ = ["Fetch", "FetchOptions", "Request", "fetch"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How much may be in flight.

    Raises:
        OptionError: a value below its least legal one.
    """

    max_in_flight: int = 32
    """Requests at the same time, >= 1. More hide latency better and cost a thread each."""
    budget_bytes: int = 256 << 20
    """Bytes fetched or being fetched and not yet handed over, >= 1. One larger object is still read, alone."""
    part_bytes: int = 8 << 20
    """Size of the parallel ranges of a large object, >= 1. Two or three times the time of one request's
    latency is best; 8 MiB doubled the rate of whole-object reads at 128 MiB (docs/decisions/0004)."""
    max_ahead: int | None = None
    """Objects or ranges fetched or being fetched and not yet handed over, >= 1. None: twice ``max_in_flight``."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "max_ahead":
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise OptionError(
                    f"FetchOptions.{field.name}: got {value!r}, expected a whole number >= 1.", field=field.name
                )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Bytes [start, end) of an object, as a manifest or an index knows it."""

    key: str
    start: int = 0
    end: int
    """One past the last byte; the object's size for the whole of it."""
    whole: bool = False
    """Whether the range is the whole object: then a small one is one plain GET."""
    etag: str | None = None
    """Refuse any other version of the object. If None, a range of many parts costs a ``head`` that finds it."""


class _Fetched:
    """The group of one request: one task, or one a part."""

    def __init__(self, store: Store, index: int, request: Request, part_bytes: int) -> None:
        self.index = index
        self.buffer: pa.Buffer | None = None
        self._store = store
        self._request = request
        self._parts = part_ranges(request.start, request.end, part_bytes=part_bytes)
        self._memory = allocate((request.end - request.start,), np.dtype(np.uint8)) if len(self._parts) > 1 else None
        self._pin = Lock()
        self._pinned = request.etag is not None
        self._etag = request.etag

    @property
    def cost(self) -> int:
        return self._request.end - self._request.start

    def __len__(self) -> int:
        return len(self._parts)

    def run(self, task: int) -> None:
        request, (start, end) = self._request, self._parts[task]
        if self._memory is not None:
            view = self._memory[start - request.start : end - request.start]
            self._store.get_into(request.key, view, start, etag=self._version())
        elif request.whole and request.etag is None:
            self.buffer = self._store.get(request.key)
            self._check_size(self.buffer.size)
        else:
            self.buffer = self._store.get_range(request.key, start, end, etag=request.etag)

    def _version(self) -> str | None:
        """The ETag that all parts ask for, so that no buffer mixes two versions."""
        with self._pin:
            if not self._pinned:
                meta = self._store.head(self._request.key)
                if self._request.whole:
                    self._check_size(meta.size)
                self._etag, self._pinned = meta.etag, True
            return self._etag

    def _check_size(self, size: int) -> None:
        if size != self._request.end:
            uri = self._store.uri(self._request.key)
            raise PreconditionError(
                f"read {uri}: got {size} bytes, expected {self._request.end}. "
                "The object changed after it was listed; list it anew.",
                uri=uri,
                operation="get",
            )

    def result(self) -> pa.Buffer:
        if self._memory is not None:
            self._memory.flags.writeable = False
            return pa.py_buffer(self._memory)
        assert self.buffer is not None
        return self.buffer


class Fetch:
    """Iterator of (index in ``requests``, read-only buffer), in the order asked for. Made by ``fetch``.

    Reading starts with the first ``next``, and ends with the last buffer, an error, or ``close``.

    Threads: one consumer; ``close`` from anywhere.
    """

    _ahead: ReadAhead[_Fetched] | None = None

    def __init__(self, store: Store, requests: Iterable[Request], options: FetchOptions) -> None:
        self._closed = False
        self._ended = False
        self._store = store
        self._requests = requests
        self._options = options

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, pa.Buffer]:
        """The next buffer. Blocks until all of it is there.

        Raises:
            StorageError: at the failed request's place; after it the iterator has ended.
            ClosedError: after ``close``, also if it came while this waited.
        """
        if self._closed:
            raise ClosedError("fetch: closed, expected open. Make a new one.")
        if self._ended:
            raise StopIteration
        try:
            if self._ahead is None:
                self._ahead = self._start()
                if self._closed:  # by another thread that saw nothing to close yet
                    self._ahead.close()
            done = next(self._ahead)
            return done.index, done.result()
        except BaseException:  # the end of the requests too
            self._ended = True
            if self._ahead is not None:
                self._ahead.close()
            raise

    def close(self) -> None:
        """Stop reading and wake a waiting consumer. Idempotent; waits briefly for requests under way."""
        self._closed = True
        if self._ahead is not None:
            self._ahead.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def _start(self) -> ReadAhead[_Fetched]:
        # Nothing that the threads hold may refer to this object, or dropping it would not end them.
        store, limits = self._store, self._options
        requests, threads = _with_tasks(iter(self._requests), limits)
        groups = (_Fetched(store, index, request, limits.part_bytes) for index, request in enumerate(requests))
        return ReadAhead(
            groups,
            threads=threads,
            budget=limits.budget_bytes,
            # twice as many, by default: enough that a slow head does not idle the threads behind it
            max_groups=limits.max_ahead or 2 * limits.max_in_flight,
            name="fetch",
        )


def fetch(store: Store, requests: Iterable[Request], options: FetchOptions | None = None) -> Fetch:
    """Read the requests concurrently and give their bytes in the order they were asked for.

    Args:
        store: where the keys are.
        requests: taken lazily from the first ``next`` on, a little ahead of the consumer: up to
            ``max_in_flight`` of them, and what ``options`` let be in flight.
        options: what may be in flight.

    Returns: an iterator of (index in ``requests``, read-only buffer). Closing or dropping it stops the reading.

    Raises:
        StorageError: at the failed request's place in the order; nothing after it is given. A
            PreconditionError for a whole object that has another size than was asked for.
    """
    return Fetch(store, requests, options or FetchOptions())


def _with_tasks(requests: Iterator[Request], limits: FetchOptions) -> tuple[Iterator[Request], int]:
    """The same requests, and the threads that they keep busy: a few small objects need no 32 of them."""
    first: list[Request] = []
    tasks = 0
    while tasks < limits.max_in_flight:
        try:
            request = next(requests)
        except StopIteration:
            return iter(first), max(1, tasks)
        except Exception as error:  # noqa: BLE001  # comes out after the requests before it
            return itertools.chain(first, _failure(error)), max(1, tasks)
        first.append(request)
        tasks += len(part_ranges(request.start, request.end, part_bytes=limits.part_bytes))
    return itertools.chain(first, requests), limits.max_in_flight


def _failure(error: Exception) -> Iterator[Request]:
    yield from ()
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame: break the cycle
