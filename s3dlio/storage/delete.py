"""Deleting: one object, many, or everything below a URI.

Owns: what a recursive delete may take, and how many requests many deletes are. Must not know: engines.

A store that has ``deletes_at_once`` > 1 removes so many objects by one request, ``delete_many(keys)``. It is repeated
as a whole like any other request: a delete of what is gone changes nothing. Where it fails for good, its keys are
removed one by one, and so is what follows: then the error is of the one object that cannot be removed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import os
from collections import deque
from typing import TYPE_CHECKING, cast

from s3dlio.concurrency.calls import in_order
from s3dlio.errors import NotFoundError, OptionError, StorageError
from s3dlio.storage.loans import Loans, check_in_flight, several
from s3dlio.storage.translate import naming
from s3dlio.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from s3dlio.storage.loans import Reach, UriLike
    from s3dlio.storage.protocol import BulkStore, Store

__all__ = ["LOCAL_ROOTS", "beyond_a_link", "delete", "delete_keys"]

_DELETES_IN_FLIGHT = 64
"""A delete is all latency."""

_KEYS_IN_FLIGHT = 8000
"""Keys of bulk deletes on their way: a server counts each as a request (S3 takes 3,500 a second of a prefix)."""

LOCAL_ROOTS = frozenset({"file:///", "direct:///"})
"""``Store.uri("")`` of the stores whose keys are paths of this machine."""


def delete(
    uri: UriLike | Iterable[UriLike],
    recursive: bool = False,
    *,
    whole_container: bool = False,
    max_in_flight: int = _DELETES_IN_FLIGHT,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> int:
    """Remove one object, many, or everything below a URI. None there is no error.

    Args:
        uri: one URI, or an iterable of them.
        recursive: each URI is also taken as a directory, and all objects below it are removed: "s3://b/a" removes
            the object "a" and "a/x", not "ab"; "s3://b/a/" the latter only. Directory markers and empty local
            directories stay, and so does what symbolic links to local directories lead to.
        whole_container: with ``recursive``, allow URIs without a key, which empty the bucket. The root of local files
            and of a filesystem of the caller's own is refused all the same.
        max_in_flight: requests at the same time, each on a thread of its own. By the native engine one removes up
            to 1,000 objects on S3 and 256 on Azure, and at most 8,000 objects are on their way.
        storage_options: as ``get``.
        filesystem: as ``get``.

    Returns: how many objects were removed. Of URIs that were named, those that were not there count too.

    Raises:
        OptionError: a URI without a key. Nothing has been removed by then.
        StorageError: the first that failed. Others may have been removed, and may still be.
    """
    check_in_flight(max_in_flight, "delete")
    uris: list[UriLike] = [uri] if isinstance(uri, str | os.PathLike | Uri) else [*several(uri, "delete", field="uri")]
    with Loans(storage_options, filesystem) as loans:
        found: Iterator[tuple[Store, str]]
        if recursive:
            whole = whole_container and filesystem is None
            below = [_directory_in(loans, one, whole_container=whole) for one in uris]
            found = ((store, key) for store, prefix in below for key in _keys_of(store, prefix))
        else:
            places = [_object_in(loans, one) for one in uris]
            if len(places) == 1:  # needs no thread
                places[0][0].delete(places[0][1])
                return 1
            found = iter(places)
        return _delete_all(found, max_in_flight)


def delete_keys(store: Store, keys: Iterable[str], *, max_in_flight: int = _DELETES_IN_FLIGHT) -> int:
    """Remove objects of one store, those that are not there too; ``delete`` says how.

    Returns: how many keys there were.

    Raises:
        StorageError: the first that failed. Others may have been removed, and may still be.
    """
    return _delete_all(((store, key) for key in keys), max_in_flight)


def _delete_all(found: Iterator[tuple[Store, str]], max_in_flight: int) -> int:
    left: deque[tuple[Store, str]] = deque()
    count = sum(in_order(_bulk(found, left), threads=max_in_flight, name="delete", budget=_KEYS_IN_FLIGHT))
    return count + sum(in_order(_singly(left), threads=max_in_flight, name="delete"))


def _bulk(
    found: Iterator[tuple[Store, str]], left: deque[tuple[Store, str]]
) -> Iterator[tuple[int, Callable[[], int]]]:
    """Deletes with their cost in keys: many at once, until one has put its keys into ``left``."""
    failed = False
    for store, following in itertools.groupby(found, operator.itemgetter(0)):
        keys = (key for _, key in following)
        at_once = getattr(store, "deletes_at_once", 1)
        while chosen := [*itertools.islice(keys, 1 if failed else at_once)]:
            yield len(chosen) if at_once > 1 else 0, functools.partial(_delete, store, chosen, left)
            failed = failed or bool(left)
            yield from _singly(left)


def _singly(left: deque[tuple[Store, str]]) -> Iterator[tuple[int, Callable[[], int]]]:
    while left:
        store, key = left.popleft()
        yield 0, functools.partial(_delete, store, (key,), left)


def _delete(store: Store, keys: Sequence[str], left: deque[tuple[Store, str]]) -> int:
    """How many objects were removed; ``left`` gets those of a request that failed for good."""
    if len(keys) == 1:
        store.delete(keys[0])
        return 1
    try:
        # ``deletes_at_once`` says that it has it. Each key once: Ceph 16's gateway may die of one that stands twice.
        cast("BulkStore", store).delete_many([*dict.fromkeys(keys)])
    except StorageError as error:
        if error.retryable:
            error.args = (f"{error} It was one request for {len(keys)} objects, of which this is the first.",)
            raise
        left.extend((store, key) for key in keys)
        return 0
    return len(keys)


def _object_in(loans: Loans, uri: UriLike) -> tuple[Store, str]:
    store, key = loans.find_object(uri, "delete")
    if key.endswith("/"):
        raise OptionError(
            f"delete {store.uri(key)}: this names a directory, expected an object. Pass recursive=True for all below.",
            field="recursive",
        )
    return store, key


def _directory_in(loans: Loans, uri: UriLike, *, whole_container: bool) -> tuple[Store, str]:
    store, key = loans.find(uri)
    if not key.strip("/") and (not whole_container or store.uri("") in LOCAL_ROOTS):
        raise OptionError(
            f"delete {loans.shown(uri)}: this would remove every object of {store.uri('')}, "
            "expected a URI with a key. To empty a bucket pass whole_container=True.",
            field="uri",
        )
    return store, key


def _keys_of(store: Store, prefix: str) -> Iterator[str]:
    if prefix and not prefix.endswith("/"):
        # A delete of nothing is no error, but would be counted.
        with contextlib.suppress(NotFoundError), naming("delete"):
            yield store.head(prefix).key
    beyond = beyond_a_link(prefix.rstrip("/")) if store.uri("") in LOCAL_ROOTS else None
    for batch in store.list(prefix):
        for key in batch.column("key").to_pylist():
            if beyond is None or not beyond(key.rpartition("/")[0]):
                yield key


def beyond_a_link(root: str) -> Callable[[str], bool]:
    """Whether a symbolic link below ``root`` leads to a directory. Listings follow links, deletes must not.

    Args:
        root: key of the local directory whose content is deleted. It may be behind a link itself.
    """

    @functools.cache
    def beyond(directory: str) -> bool:
        if len(directory) <= len(root):
            return False
        return beyond(directory.rpartition("/")[0]) or os.path.islink(f"/{directory}")  # noqa: PTH114 - no path needed

    return beyond
