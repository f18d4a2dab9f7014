"""The verbs of a store over an engine that may fail, hang or be replaced: every request by one policy.

Owns: what of a verb is repeated, and what may outlive it. Must not know: which engine, or how it does a verb
(``remote`` chooses it); how long to wait and how often (``policy``).

- Memory: where a call may be left (``Requests.detaches``) it never gets the caller's memory. ``get_into`` reads
  into its own and copies, ``put`` sends a copy of what can still be changed.
- The first request of ``put(mode="create")`` may break after the server has stored it. If a repeated one finds an
  object with exactly these bytes, that is taken for ours. So racing creators must not send the same bytes: what
  is to be a lock needs its owner's name in it.
- A listing goes on behind the last key that was delivered, where the server lists in the order of keys; no row comes
  twice or gets lost. Elsewhere only its beginning is repeated.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from s3dlio.errors import AccessError, ExistsError, NotFoundError, PreconditionError, StorageError, ThrottledError
from s3dlio.storage.arguments import check_mode, check_range, payload, target
from s3dlio.storage.object_read import get_clipped
from s3dlio.storage.requests.policy import Limit, Requests, RequestStatistics, Verb
from s3dlio.storage.spool import set_aside
from s3dlio.storage.translate import naming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    import pyarrow as pa

    from s3dlio.storage.arrow.store import ArrowStore
    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import BufferLike, ObjectMeta, ObjectWriter, PutMode, Store

__all__ = ["Create", "ForeignStore", "ResilientStore"]

T = TypeVar("T")

_COMPARED_BYTES = 8 << 20
"""What a create that may have succeeded reads at a time to find out."""

_MANY = 10
"""A listing or a copy of an engine that shows no progress may take so many times as long as a small request."""


class ResilientStore:
    """Verbs by policy over the engine that ``_engine`` chooses.

    Args:
        options: the policy's limits.
    """

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        # By process: a child inherits this dict, and must not use the parent's threads and locks.
        self._policies: dict[int, Requests] = {}
        self._closed = False

    @property
    def statistics(self) -> RequestStatistics:
        """What was asked of the server so far, in this process."""
        return self._requests.statistics

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``."""
        return self._run("head", key, lambda engine: engine.head(key), self._limit())

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``."""
        limit = self._limit(find_size=lambda: self._engine().head(key).size)
        return self._run("get", key, lambda engine: engine.get(key), limit, hedge_size=-1)

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``."""
        check_range(start, end, self.uri(key))
        return self._read("get_range", key, start, end, etag)

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``."""
        check_range(start, end, self.uri(key))
        limit = self._limit(end - start)
        return self._run("get", key, lambda engine: get_clipped(engine, key, start, end), limit, hedge_size=end - start)

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``. Costs a copy where the request may be left."""
        uri = self.uri(key)
        view = target(buffer, uri)
        check_range(start, start + len(view), uri)
        limit = self._limit(len(view))
        if self._options.hedge_percentile is None and not self._requests.detaches(limit):
            self._run("get_into", key, lambda engine: engine.get_into(key, view, start, etag=etag), limit)
        else:
            data = self._read("get_into", key, start, start + len(view), etag)
            np.frombuffer(view, np.uint8)[:] = np.frombuffer(data, np.uint8)  # unlike memoryview, without the GIL

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``."""
        check_mode(mode, self.uri(key))
        view = payload(data, "put", self.uri(key))
        limit = self._limit(view.size)
        if view.is_mutable and self._requests.detaches(limit):
            view = set_aside(view, "put", self.uri(key))
        if mode == "create":
            return self._run("put", key, Create(key, view), limit)
        return self._run("put", key, lambda engine: engine.put(key, view, mode=mode), limit)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``. The writer belongs to this process: a child must open its own."""
        return self._engine().open_writer(key, size_hint=size_hint)

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``. The iterator belongs to this process."""
        listing = _Listing(prefix, self.uri(prefix), self._engine().list(prefix))
        return self._pages(listing)

    def delete(self, key: str) -> None:
        """As ``Store.delete``."""
        self._run("delete", key, lambda engine: engine.delete(key), self._limit())

    @property
    def deletes_at_once(self) -> int:
        """Most keys of one ``delete_many``."""
        return 1

    def delete_many(self, keys: Sequence[str]) -> None:
        """Remove up to ``deletes_at_once`` objects by one request, repeated as a whole; see ``storage.delete``."""

        def call(engine: Store) -> None:
            verb = getattr(engine, "delete_many", None)
            if verb is not None:
                verb(keys)
                return
            for key in keys:  # the engine is another one than ``deletes_at_once`` was asked of
                engine.delete(key)

        self._run("delete", keys[0], call, self._limit(many=True))

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        self._run("copy", source, lambda engine: engine.copy(source, target), self._limit(many=True))

    def close(self) -> None:
        """Wake those who wait for a repetition. Idempotent; verbs called afterwards raise ClosedError."""
        self._closed = True
        policy = self._policies.get(os.getpid())
        if policy is not None:
            policy.close()

    def uri(self, key: str) -> str:
        """The full URI of ``key``."""
        raise NotImplementedError

    def _engine(self) -> Store:
        """The engine of the next attempt.

        Raises:
            ClosedError: the store is closed.
        """
        raise NotImplementedError

    def _renew(self, engine: Store, error: AccessError, refused_at: float) -> bool:  # noqa: ARG002 - for subclasses
        """Whether the next ``_engine`` has other credentials than ``engine``, which were refused."""
        return False

    def _silence(self) -> tuple[float, int] | None:
        """Seconds that a request without a byte may take, and bytes a second of the slowest; None: no limit here."""
        raise NotImplementedError

    def _limit(self, size: int = 0, *, find_size: Callable[[], int] | None = None, many: bool = False) -> Limit | None:
        silence = self._silence()
        if silence is None:
            return None
        silent_s, slowest = silence
        return Limit(silent_s * (_MANY if many else 1), slowest, size, find_size)

    @property
    def _requests(self) -> Requests:
        found = self._policies.get(os.getpid())
        if found is None:
            found = self._policies.setdefault(os.getpid(), Requests(self._options))
        return found

    def _run(
        self,
        operation: str,
        key: str,
        call: Callable[[Store], T],
        limit: Limit | None,
        *,
        hedge_size: int | None = None,
    ) -> T:
        verb = Verb(operation, self.uri(key), call, self._engine, self._renew, limit, hedge_size)
        return self._requests.run(verb)

    def _read(self, operation: str, key: str, start: int, end: int, etag: str | None) -> pa.Buffer:
        def read(engine: Store) -> pa.Buffer:
            with naming(operation):
                return engine.get_range(key, start, end, etag=etag)

        return self._run(operation, key, read, self._limit(end - start), hedge_size=end - start)

    def _pages(self, listing: _Listing) -> Iterator[pa.RecordBatch]:
        while True:
            rest, batch = self._run("list", listing.prefix, listing.turn, self._limit(many=True))
            if batch is None:
                return
            listing.turned(rest, batch)
            if batch.num_rows:
                yield batch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class ForeignStore(ResilientStore):
    """A filesystem that the user brought, by the same policy.

    Args:
        store: over the filesystem; this owns it.
        options: the policy's limits.
    """

    def __init__(self, store: ArrowStore, options: StorageOptions) -> None:
        super().__init__(options)
        self._store = store
        self._local = store.filesystem.type_name in {"local", "mock"}

    @property
    def atomic_create(self) -> bool:
        """As the filesystem can."""
        return self._store.atomic_create

    @property
    def filesystem(self) -> Any:
        """The filesystem itself."""
        return self._store.filesystem

    def path(self, key: str) -> str:
        """As ``ArrowStore.path``."""
        return self._store.path(key)

    def uri(self, key: str) -> str:
        """As ``ArrowStore.uri``."""
        return self._store.uri(key)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``ArrowStore.open_writer``; the object is sent by this store's ``put``."""
        return self._store.writer(key, self.put, size_hint=size_hint)

    def close(self) -> None:
        """As ``Store.close``."""
        super().close()
        self._store.close()

    def _engine(self) -> Store:
        return self._store

    def _silence(self) -> tuple[float, int] | None:
        return None if self._local else (2 * self._options.read_timeout_s, 1 << 20)

    def __repr__(self) -> str:
        return f"ForeignStore({self._store!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return ForeignStore, (self._store, self._options)


class Create:
    """Put ``data`` where nothing is, and tell our own object of a broken attempt from another's.

    Args:
        key: the object.
        data: its bytes.
    """

    def __init__(self, key: str, data: pa.Buffer) -> None:
        self._key = key
        self._data = data
        # Attempts that may have stored it. One that was given up ends when it likes, so each knows its own.
        self._unsure: set[object] = set()

    def __call__(self, engine: Store) -> ObjectMeta:
        """One attempt.

        Raises:
            ExistsError: something is there that no earlier attempt can have stored.
        """
        attempt = object()
        before = bool(self._unsure)
        self._unsure.add(attempt)
        try:
            return engine.put(self._key, self._data, mode="create")
        except ExistsError:
            found = self._found(engine) if before else None
            if found is None:
                raise
            return found
        except (ThrottledError, AccessError):  # refused, so not stored
            self._unsure.discard(attempt)
            raise

    def _found(self, engine: Store) -> ObjectMeta | None:
        """What is there, if it has our bytes."""
        try:
            meta = engine.head(self._key)
            if meta.size != self._data.size:
                return None
            ours = memoryview(self._data)
            for start in range(0, meta.size, _COMPARED_BYTES):
                end = min(start + _COMPARED_BYTES, meta.size)
                if memoryview(engine.get_range(self._key, start, end, etag=meta.etag)) != ours[start:end]:
                    return None
        except (NotFoundError, PreconditionError):  # somebody else is at it
            return None
        return meta


class _Listing:
    """How far a listing has come. A turn that fails or is left changes nothing here."""

    def __init__(self, prefix: str, uri: str, batches: Iterator[pa.RecordBatch]) -> None:
        self.prefix = prefix
        self._uri = uri
        self._batches: Iterator[pa.RecordBatch] | None = batches
        self._last = ""
        self._ordered = True

    def turn(self, engine: Store) -> tuple[Iterator[pa.RecordBatch], pa.RecordBatch | None]:
        """The iterator to go on with and its next batch, None at the end."""
        batches, self._batches = self._batches, None
        if batches is None:
            if not self._ordered:  # after new credentials, or a turn that was given up
                raise self._lost()
            batches = engine.list(self.prefix)
            if self._last:
                batches = self._behind(self._last, batches)
        try:
            return batches, next(batches, None)
        except StorageError as error:
            if not self._ordered:
                error.retryable = False  # where to go on cannot be told
            raise

    def turned(self, batches: Iterator[pa.RecordBatch], batch: pa.RecordBatch) -> None:
        """``batch`` is delivered; ``batches`` has the rest."""
        self._batches = batches
        keys = batch.column("key")
        if len(keys):
            self._ordered = self._ordered and _rising(self._last, keys)
            self._last = keys[-1].as_py()

    def _behind(self, last: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of a second listing behind ``last``.

        A batch without any is left out: it would pass for progress, and what always fails would be tried for ever.
        """
        import pyarrow.compute as pc  # noqa: PLC0415 - 27 ms of import time, and only listings need it

        before = ""
        for batch in batches:
            keys = batch.column("key")
            if not len(keys):
                continue
            if not _rising(before, keys):
                raise self._lost()
            before = keys[-1].as_py()
            if before > last:
                yield batch.filter(pc.greater(keys, last))

    def _lost(self) -> StorageError:
        return StorageError(
            f"list {self._uri}: broke off, and rows are not in the order of keys, expected an order to go on by. "
            "List it again.",
            uri=self._uri,
            operation="list",
            attempts=0,
        )


def _rising(last: str, keys: pa.Array) -> bool:
    """Whether ``keys``, one at least, are in order and behind ``last``."""
    import pyarrow.compute as pc  # noqa: PLC0415 - as above

    return last < keys[0].as_py() and pc.all(pc.less(keys[:-1], keys[1:])).as_py() is not False
