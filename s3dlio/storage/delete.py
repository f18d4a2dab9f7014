"""Deleting: one object, many, or everything below a URI.

Owns: what a recursive delete may take. Must not know: engines.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from s3dlio.concurrency.calls import in_order
from s3dlio.errors import NotFoundError, OptionError
from s3dlio.storage.loans import Loans, check_in_flight
from s3dlio.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3dlio.storage.loans import Reach, UriLike
    from s3dlio.storage.protocol import Store

__all__ = ["LOCAL_ROOTS", "beyond_a_link", "delete"]

_DELETES_IN_FLIGHT = 64
"""A delete is all latency."""

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
        max_in_flight: deletes at the same time, each on a thread of its own.
        storage_options: as ``get``.
        filesystem: as ``get``.

    Returns: how many objects were removed. Of URIs that were named, those that were not there count too.

    Raises:
        OptionError: a URI without a key. Nothing has been removed by then.
        StorageError: the first that failed. Others may have been removed, and may still be.
    """
    check_in_flight(max_in_flight, "delete")
    uris: list[UriLike] = [uri] if isinstance(uri, str | os.PathLike | Uri) else [*uri]
    with Loans(storage_options, filesystem) as loans:
        found: Iterable[tuple[Store, str]]
        if recursive:
            whole = whole_container and filesystem is None
            below = [_directory_in(loans, one, whole_container=whole) for one in uris]
            found = ((store, key) for store, prefix in below for key in _keys_of(store, prefix))
        else:
            found = [loans.find_object(one, "delete") for one in uris]
            if len(found) == 1:  # needs no thread
                found[0][0].delete(found[0][1])
                return 1
        work = ((0, functools.partial(store.delete, key)) for store, key in found)
        return sum(1 for _ in in_order(work, threads=max_in_flight, name="delete"))


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
        with contextlib.suppress(NotFoundError):  # a delete of nothing is no error, but would be counted
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
