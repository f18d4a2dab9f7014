"""The function API for coroutines: the same requests, on threads, awaited.

Owns: how an event loop waits for them. Must not know: how an object is read or stored.

Guarantees:
- the event loop is never blocked: all that may wait, also reading the environment and files of options, is on threads
- all single calls of one event loop share at most ``_THREADS`` threads, however many are awaited together
- cancelling takes effect at once; what has not begun is not begun, and a request under way ends by itself, unheard
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import weakref
from typing import TYPE_CHECKING, TypeVar

from s3dlio.concurrency.calls import Calls
from s3dlio.storage import objects
from s3dlio.storage.loans import Loans, check_in_flight, several
from s3dlio.storage.object_read import PARTS_IN_FLIGHT, ObjectRead
from s3dlio.storage.objects import ObjectBytes
from s3dlio.transfer.many import pairs

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from typing import Any

    from s3dlio.storage.loans import Reach, UriLike
    from s3dlio.storage.protocol import BufferLike, ObjectMeta, PutMode

__all__ = ["exists_async", "get_async", "get_many_async", "put_bytes_async", "put_many_async", "stat_async"]

T = TypeVar("T")

_THREADS = 64
"""As ``max_in_flight`` of ``get_many``: what hides a latency of 20 ms at about 1,300 objects a second."""

_calls: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Calls] = weakref.WeakKeyDictionary()
# Module-level because the calls that share a bound have nothing in common but their event loop. There are threads
# only while there is work, and the entry goes with the loop.


async def get_async(uri: UriLike, *, storage_options: Reach = None, filesystem: object | None = None) -> ObjectBytes:
    """As ``get``.

    Threads: one event loop at a time has at most 64 requests of single calls in flight; others wait their turn.
    """
    with Loans(storage_options, filesystem) as loans:
        return await _get(_shared(), loans, uri)


async def put_bytes_async(
    uri: UriLike,
    data: BufferLike,
    *,
    mode: PutMode = "overwrite",
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> ObjectMeta:
    """As ``put_bytes``. ``data`` must not change before it returns. After a cancellation the object may be there."""
    put = functools.partial(
        objects.put_bytes, uri, data, mode=mode, storage_options=storage_options, filesystem=filesystem
    )
    return await _on(_shared(), put)


async def stat_async(
    uri: UriLike, *, storage_options: Reach = None, filesystem: object | None = None
) -> dict[str, str | int | dt.datetime | None]:
    """As ``stat``."""
    stat = functools.partial(objects.stat, uri, storage_options=storage_options, filesystem=filesystem)
    return await _on(_shared(), stat)


async def exists_async(uri: UriLike, *, storage_options: Reach = None, filesystem: object | None = None) -> bool:
    """As ``exists``."""
    exists = functools.partial(objects.exists, uri, storage_options=storage_options, filesystem=filesystem)
    return await _on(_shared(), exists)


async def get_many_async(
    uris: Iterable[UriLike],
    max_in_flight: int = 64,
    *,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> list[tuple[str, ObjectBytes]]:
    """As ``get_many``, on threads of its own. ``uris`` is asked by the event loop's thread."""
    check_in_flight(max_in_flight, "get_many")
    uris = several(uris, "get_many")
    calls = Calls(threads=max_in_flight, name="get")
    with Loans(storage_options, filesystem) as loans:

        async def one(uri: UriLike) -> tuple[str, ObjectBytes]:
            return str(uri), await _get(calls, loans, uri)

        return await _bounded(max_in_flight, (functools.partial(one, uri) for uri in uris))


async def put_many_async(
    items: Mapping[str, BufferLike] | Iterable[tuple[UriLike, BufferLike]],
    max_in_flight: int = 64,
    *,
    mode: PutMode = "overwrite",
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> list[ObjectMeta]:
    """As ``put_many``, on threads of its own. ``items`` is asked by the event loop's thread."""
    check_in_flight(max_in_flight, "put_many")
    items = pairs(items)
    calls = Calls(threads=max_in_flight, name="put")
    with Loans(storage_options, filesystem) as loans:

        def put(uri: UriLike, data: BufferLike) -> ObjectMeta:
            store, key = loans.find_object(uri, "put")
            return store.put(key, data, mode=mode)

        def one(uri: UriLike, data: BufferLike) -> Callable[[], Coroutine[Any, Any, ObjectMeta]]:
            return functools.partial(_on, calls, functools.partial(put, uri, data))

        return await _bounded(max_in_flight, itertools.starmap(one, items))


async def _get(calls: Calls, loans: Loans, uri: UriLike) -> ObjectBytes:
    """An object: its first request, then its parts, each as one call, so that no call waits for another."""
    begun = await _on(calls, functools.partial(_begin, loans, uri))
    if isinstance(begun, ObjectBytes):
        return begun
    parts = range(len(begun.parts))
    await _bounded(
        PARTS_IN_FLIGHT,
        (functools.partial(_on, calls, functools.partial(begun.read_part, number)) for number in parts),
    )
    return await _on(calls, functools.partial(_bytes, begun))


def _begin(loans: Loans, uri: UriLike) -> ObjectBytes | ObjectRead:
    one = ObjectRead(*loans.find_object(uri, "get"))
    one.begin()
    return one if one.parts else _bytes(one)


def _bytes(one: ObjectRead) -> ObjectBytes:
    return ObjectBytes(memoryview(one.result()))


def _shared() -> Calls:
    """The threads for single calls of the running event loop."""
    return _calls.setdefault(asyncio.get_running_loop(), Calls(threads=_THREADS, name="async"))


async def _on(calls: Calls, call: Callable[[], T]) -> T:
    return await asyncio.wrap_future(calls.submit(call))


async def _bounded(limit: int, jobs: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
    """The results of ``jobs`` in order, at most ``limit`` under way. The first error cancels the others."""
    numbered = enumerate(jobs)
    results: dict[int, T] = {}

    async def work(number: int, job: Callable[[], Coroutine[Any, Any, T]]) -> None:
        results[number] = await job()
        for following, other in numbered:  # shared by all workers: each takes what the others have not
            results[following] = await other()

    workers = [asyncio.ensure_future(work(*first)) for first in itertools.islice(numbered, limit)]
    try:
        await asyncio.gather(*workers)
    except BaseException:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        raise
    return [results[number] for number in range(len(results))]
