"""One store over several endpoints that hold the same objects.

Owns: going on at another endpoint, and what may be sent twice. Must not know: how an endpoint is chosen
(``storage.multi.balance``), or asked (``storage.requests.remote``, an object for each endpoint).

Guarantees:
- a verb fails for want of an endpoint only after every one of them has failed it
- reads, listings, deletes, copies and puts go on at another endpoint; ``put(mode="create")`` tells what an attempt of
  its own has made before its answer was lost from what others have made, by its bytes
- a writer of up to 8 MiB does, too. A larger one stays on one endpoint; when that fails, nothing is published
- a listing goes on after the last key it gave, where keys come in order; else the error is raised
- a forked child has connections, choices and counts of its own
The endpoints must show the same objects with the same ETags, as the gateways of one storage system do. With copies
whose ETags differ, a read that is pinned to a version and goes elsewhere is a PreconditionError, never a mixture.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import TYPE_CHECKING, Any, TypeVar, cast

from s3dlio.concurrency import Event, wait_for
from s3dlio.errors import ClosedError, OptionError, StorageError
from s3dlio.storage.arguments import check_mode, check_size_hint, directory, payload
from s3dlio.storage.arrow.filesystem import store_filesystem
from s3dlio.storage.configuration.container import Container
from s3dlio.storage.multi.balance import Balancer
from s3dlio.storage.multi.failover import GATHERED_BYTES, Attempt, EndpointSink, Failover, is_answer
from s3dlio.storage.native.writer import MAX_OBJECT_BYTES
from s3dlio.storage.object_read import get_clipped
from s3dlio.storage.requests.remote import RemoteStore
from s3dlio.storage.requests.resilient import Create
from s3dlio.storage.writer import SinkWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    import pyarrow as pa

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.multi.balance import EndpointStatistics, Ticket
    from s3dlio.storage.protocol import BufferLike, BulkStore, ObjectMeta, ObjectWriter, PutMode, Store
    from s3dlio.uri import Uri

__all__ = ["MultiEndpointStore"]

T = TypeVar("T")


def _none(_result: object) -> int:
    return 0


class MultiEndpointStore:
    """One container on several servers. What ``open_store`` returns for options with ``endpoint_urls``.

    Opening makes no request. Pickles as its URI and options, like ``RemoteStore``.

    Args:
        uri: of the container; its key plays no part.
        options: how to reach it. ``max_attempts`` and ``retry_deadline_s`` bound the rounds over all endpoints.
        wrap: applied to the store of each endpoint; must pickle.

    Raises:
        OptionError: no endpoints, or no rank for ``balance="rank"``.
    """

    def __init__(self, uri: Uri, options: StorageOptions, *, wrap: Callable[[Store], Store] | None = None) -> None:
        if not options.endpoint_urls:
            raise OptionError(f"open {uri}: endpoint_urls is empty, expected some URLs.", field="endpoint_urls")
        if options.balance == "rank" and options.endpoint_rank is None:
            raise OptionError(
                f"open {uri}: balance is 'rank', and no launcher has set this process's rank, expected one. "
                "Set endpoint_rank, or RANK in the environment.",
                field="endpoint_rank",
            )
        self._uri = uri.with_key("")
        self._options = options
        self._wrap = wrap
        # One attempt: the next one goes to another endpoint, and knows best which.
        self._stores = [self._at(url, max_attempts=1) for url in options.endpoint_urls]
        # What is sent in parts stays where it is, so its parts are repeated there.
        self._senders = [self._at(url, max_attempts=options.max_attempts) for url in options.endpoint_urls]
        self._states: dict[int, _State] = {}  # by process: locks and counts are not for a child
        self._closed = False

    @property
    def options(self) -> StorageOptions:
        """How the container is reached."""
        return self._options

    @property
    def backend(self) -> Any:
        """The engine that the next call uses."""
        return self._any.backend

    @property
    def endpoint_statistics(self) -> tuple[EndpointStatistics, ...]:
        """What this process has asked of each endpoint, in the order of ``options.endpoint_urls``."""
        return self._state.balancer.statistics

    @property
    def statistics(self) -> Any:
        """As ``RemoteStore.statistics``, of all endpoints together."""
        stores: list[Any] = [*self._stores, *self._senders]
        each = [dataclasses.asdict(store.statistics) for store in stores]
        return type(stores[0].statistics)(**{name: sum(one[name] for one in each) for name in each[0]})

    @property
    def atomic_create(self) -> bool:
        """As ``RemoteStore``, if the endpoints are doors to one storage system."""
        return bool(self._any.atomic_create)

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.PyFileSystem`` over this store, so that it uses all endpoints."""
        return store_filesystem(self)

    def path(self, key: str) -> str:
        """The key itself."""
        return key

    def uri(self, key: str) -> str:
        """``scheme://container/key``."""
        return self._any.uri(key)

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``."""
        return self._run("head", key, lambda store: store.head(key))

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``."""
        return self._run("get", key, lambda store: store.get(key), read=lambda data: data.size)

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``."""
        return self._run(
            "get_range", key, lambda store: store.get_range(key, start, end, etag=etag), read=lambda data: data.size
        )

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``."""
        return self._run("get", key, lambda store: get_clipped(store, key, start, end), read=lambda both: both[1].size)

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``."""
        self._run(
            "get_into", key, lambda store: store.get_into(key, buffer, start, etag=etag),
            read=lambda _: payload(buffer, "get_into", key).size,
        )  # fmt: skip

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``."""
        check_mode(mode, self.uri(key))
        view = payload(data, "put", self.uri(key))
        # One object for all endpoints: it knows what an attempt at another one may have made.
        call = Create(key, view) if mode == "create" else lambda store: store.put(key, view)
        stores = self._stores if view.size <= GATHERED_BYTES else self._senders
        return self._run("put", key, call, written=lambda meta: meta.size, stores=stores)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``.

        Up to 8 MiB are kept, and sent where an endpoint works. More begins at an endpoint that has just answered (one
        head) and stays there: if it fails, nothing is published and the error is raised.
        """
        self._check_open("open_writer")
        one = self._options.replace(endpoint_url=self._options.endpoint_urls[0], endpoint_urls=())
        uri = Container.of(self._uri, one).check(key, "open_writer", reading=False)
        check_size_hint(size_hint, uri, most=MAX_OBJECT_BYTES if self.backend == "native" else None)

        def begin() -> tuple[ObjectWriter, Attempt]:
            number = self._run("open_writer", key, lambda store: self._that_answers(store, key))
            state = self._state
            attempt = Attempt(state.balancer, state.balancer.take_at(number))
            try:
                return self._senders[number].open_writer(key, size_hint=size_hint), attempt
            except BaseException as error:
                attempt.judge(error)
                raise

        sink = EndpointSink(functools.partial(self.put, key), begin)
        return SinkWriter(uri, sink, checksummed=False)

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``."""
        self._check_open("list")
        directory(prefix, self.uri(prefix))
        return self._list(prefix)

    def delete(self, key: str) -> None:
        """As ``Store.delete``."""
        self._run("delete", key, lambda store: store.delete(key))

    @property
    def deletes_at_once(self) -> int:
        """As ``RemoteStore.deletes_at_once``."""
        return int(self._any.deletes_at_once)

    def delete_many(self, keys: Sequence[str]) -> None:
        """As ``RemoteStore.delete_many``."""
        self._run("delete", keys[0], lambda store: cast("BulkStore", store).delete_many(keys))

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        self._run("copy", source, lambda store: store.copy(source, target))

    def close(self) -> None:
        """Give up connections. Idempotent; verbs called afterwards raise ClosedError."""
        self._closed = True
        state = self._states.get(os.getpid())
        if state is not None:
            state.closed.set()
        for store in (*self._stores, *self._senders):
            store.close()

    def _at(self, url: str, *, max_attempts: int) -> Store:
        options = self._options.replace(endpoint_url=url, endpoint_urls=(), max_attempts=max_attempts)
        store: Store = RemoteStore(self._uri, options)
        return store if self._wrap is None else self._wrap(store)

    @property
    def _any(self) -> Any:
        """For what is the same at every endpoint."""
        return self._stores[0]

    @property
    def _state(self) -> _State:
        found = self._states.get(os.getpid())
        if found is None:
            options = self._options
            balancer = Balancer(options.endpoint_urls, options.balance, rank=options.endpoint_rank or 0)
            found = self._states.setdefault(os.getpid(), _State(balancer))
        return found

    def _run(
        self,
        operation: str,
        key: str,
        call: Callable[[Store], T],
        *,
        read: Callable[[T], int] = _none,
        written: Callable[[T], int] = _none,
        stores: Sequence[Store] | None = None,
    ) -> T:
        """The verb at one endpoint after another, until one has answered."""
        failover = Failover(self._options, operation, self.uri(key))
        while True:
            state, ticket = self._take(failover)
            try:
                with Attempt(state.balancer, ticket) as attempt:
                    result = call((stores or self._stores)[ticket.number])
                    attempt.read, attempt.written = read(result), written(result)
                    return result
            except StorageError as error:
                if is_answer(error):
                    raise
                failover.note(ticket.number, error)

    def _that_answers(self, store: Store, key: str) -> int:
        """The number of ``store``, if it works."""
        try:
            store.head(key)
        except StorageError as error:
            if not is_answer(error):
                raise
        return self._stores.index(store)

    def _list(self, prefix: str) -> Iterator[pa.RecordBatch]:
        from pyarrow import compute as pc  # noqa: PLC0415 - see _ascending

        failover = Failover(self._options, "list", self.uri(prefix))
        last: str | None = None  # the key that was given last
        cut: tuple[str, StorageError] | None = None  # the one before a listing broke off
        in_order = True
        while True:
            state, ticket = self._take(failover)
            previous: str | None = None  # in this endpoint's listing, of which the first keys may have been given
            try:
                with Attempt(state.balancer, ticket):
                    for batch in self._stores[ticket.number].list(prefix):
                        keys = batch["key"]
                        in_order = in_order and _ascending(keys, previous)
                        previous = keys[-1].as_py()
                        if cut is not None and not in_order:
                            break
                        new = batch if cut is None else batch.filter(pc.greater(keys, cut[0]))
                        if new.num_rows:
                            last = previous
                            yield new
                    else:
                        return
            except StorageError as error:
                if is_answer(error) or not in_order:
                    raise
                failover.note(ticket.number, error)
                cut = None if last is None else (last, error)
                continue
            assert cut is not None  # which keys were given before it, such a listing cannot tell
            raise cut[1]

    def _take(self, failover: Failover) -> tuple[_State, Ticket]:
        """An endpoint that has not been tried in this round; between rounds a pause."""
        while True:
            self._check_open(failover.operation)
            state = self._state
            ticket = state.balancer.take(failover.tried)
            if ticket is not None:
                return state, ticket
            wait_for(state.closed, failover.pause_s())

    def _check_open(self, operation: str) -> None:
        if self._closed:
            raise ClosedError(f"{operation} {self._uri}: the store is closed, expected an open one. Open it again.")

    def __repr__(self) -> str:
        return f"MultiEndpointStore({str(self._uri)!r}, {self._options!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._uri, self._options, self._wrap)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _restore(uri: Uri, options: StorageOptions, wrap: Callable[[Store], Store] | None) -> MultiEndpointStore:
    return MultiEndpointStore(uri, options, wrap=wrap)


def _ascending(keys: pa.Array, previous: str | None) -> bool:
    """Whether each of ``keys`` comes after the one before it, and the first after ``previous``."""
    from pyarrow import compute as pc  # noqa: PLC0415 - costs every import of s3dlio 27 ms

    after = previous is None or previous < keys[0].as_py()
    return after and (len(keys) < 2 or bool(pc.all(pc.less(keys[:-1], keys[1:])).as_py()))


class _State:
    """What belongs to one process."""

    def __init__(self, balancer: Balancer) -> None:
        self.balancer = balancer
        self.closed = Event()
