"""Open stores that the function API lends to its calls, so that each call need not connect anew.

Opening costs a connection and, over TLS, reading the certificates of the machine: a loop of ``get(uri)`` took many
times as long as one on an open store. Users of functions have nowhere to keep a store, so the process does; this is
the one place where that is right, and nobody who opens a store himself meets it.

Owns: which stores are kept. Must not know: what a store does.

Guarantees:
- what is lent is reached as the options and the environment say now: a changed variable is another store
- at most ``_KEPT`` stores that nobody uses stay open; the one unused for the longest time is closed first
- a store is never closed while it is lent
- a forked child keeps none of its parent's stores and waits for none of its parent's locks
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from s3dlio.concurrency import Lock
from s3dlio.errors import ClosedError, OptionError
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.storage.open import open_store
from s3dlio.storage.operation_log.log import active_op_log
from s3dlio.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping
    from typing import Any, Self, TypeAlias

    from s3dlio.storage.protocol import Store

    UriLike: TypeAlias = str | os.PathLike[str] | Uri
    Reach: TypeAlias = StorageOptions | Mapping[str, Any] | None

__all__ = ["KeptStores", "Loans", "check_in_flight", "several"]


_KEPT = 16
"""Containers that one program works on in turns, generously; an idle store holds a few idle connections."""

T = TypeVar("T")


class _Kept:
    """A store and how many use it."""

    __slots__ = ("borrowers", "key", "store")

    def __init__(self, key: Hashable, store: Store) -> None:
        self.key = key
        self.store = store
        self.borrowers = 0


class KeptStores:
    """Open stores by how they are reached. Threads: any."""

    def __init__(self, limit: int = _KEPT) -> None:
        self._limit = limit
        self._lock = Lock()
        self._stores: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._returned: deque[_Kept] = deque()  # what was given back and not counted yet

    def __len__(self) -> int:
        """How many are open."""
        return len(self._stores)

    def borrow(self, uri: Uri, options: StorageOptions) -> _Kept:
        """The store of ``uri``'s container, opened if need be; to be given back."""
        key: Hashable = (uri.scheme, uri.account, uri.container, options, active_op_log())
        try:
            hash(key)
        except TypeError:  # a credential provider that cannot be told from others is used for one call
            key = object()
        with self._lock:
            kept = self._stores.get(key)
            if kept is None:
                kept = _Kept(key, open_store(uri, storage_options=options))  # makes no request
                self._stores[key] = kept
            kept.borrowers += 1
            self._stores.move_to_end(key)
            surplus = self._settle()
        _close(surplus)
        return kept

    def give_back(self, kept: _Kept) -> None:
        """One borrower less. Never waits: a garbage collection may call it in the middle of ``borrow``."""
        self._returned.append(kept)
        while self._returned and self._lock.acquire(blocking=False):
            try:
                surplus = self._settle()
            finally:
                self._lock.release()
            _close(surplus)

    def _settle(self) -> list[_Kept]:
        """Count what came back, and take out the stores that are too many."""
        while self._returned:
            self._returned.popleft().borrowers -= 1
        count = len(self._stores) - self._limit
        idle = [kept for kept in self._stores.values() if not kept.borrowers] if count > 0 else []
        return [self._stores.pop(kept.key) for kept in idle[: max(0, count)]]


def _close(surplus: list[_Kept]) -> None:
    for kept in surplus:
        kept.store.close()


class Loans:
    """The stores of one call, each container's borrowed once and given back at the end.

    Args:
        storage_options: as ``open_store``.
        filesystem: as ``open_store``. It is the caller's, so nothing of it is kept.

    Threads: any; ``find`` after ``close`` is a ClosedError.
    """

    def __init__(self, storage_options: Reach = None, filesystem: object | None = None) -> None:
        self._storage_options = storage_options
        self._filesystem = filesystem
        self._lender = _lender
        self._pid = os.getpid()
        self._lock = Lock()
        self._borrowed: dict[tuple[str, str, str], _Kept] = {}
        self._foreign: dict[bool, Store] = {}
        self._closed = False

    def find(self, uri: UriLike) -> tuple[Store, str]:
        """The store of ``uri`` and the key in it, valid until ``close``. Makes no request.

        Raises:
            OptionError: as ``open_store``.
        """
        if self._filesystem is not None:
            return self._find_foreign(str(uri), self._filesystem)
        parsed = Uri.parse(uri)
        container = (parsed.scheme, parsed.account, parsed.container)
        with self._lock:
            self._check_open()
            found = self._borrowed.get(container)
            if found is None:
                found = self._lender.borrow(parsed, self._options(parsed.scheme))
                self._borrowed[container] = found
        return found.store, parsed.key

    def find_object(self, uri: UriLike, operation: str) -> tuple[Store, str]:
        """As ``find``, of an object.

        Raises:
            OptionError: the URI names a container.
        """
        place = Uri.parse(uri) if self._filesystem is None else str(uri)
        if not (place.key if isinstance(place, Uri) else place.strip("/")):  # before a store is opened
            raise OptionError(
                f"{operation} {self.shown(uri)}: the URI names a container, expected an object. Add its key.",
                field="uri",
            )
        return self.find(place)

    def shown(self, uri: UriLike) -> str:
        """``uri`` for messages: without passwords and signatures."""
        return Uri.parse(uri).masked() if self._filesystem is None else str(uri)

    def close(self) -> None:
        """Give back. Idempotent."""
        if self._pid != os.getpid():
            return  # the parent's; its locks may be held by threads that the fork left behind
        with self._lock:
            self._closed = True
            borrowed, self._borrowed = self._borrowed, {}
            foreign, self._foreign = self._foreign, {}
        for kept in borrowed.values():
            self._lender.give_back(kept)
        for store in foreign.values():
            store.close()

    def _find_foreign(self, path: str, filesystem: object) -> tuple[Store, str]:
        with self._lock:
            self._check_open()
            rooted = path.startswith("/")
            if rooted not in self._foreign:
                self._foreign[rooted] = open_store(path, storage_options=self._storage_options, filesystem=filesystem)
        return self._foreign[rooted], path.lstrip("/")

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("use a store: the call was given up, expected it to go on.")

    def _options(self, scheme: str) -> StorageOptions:
        given = self._storage_options
        if isinstance(given, StorageOptions):
            return given
        return StorageOptions.from_env(scheme, **(given or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def check_in_flight(count: object, operation: str) -> None:
    """Raise OptionError unless ``max_in_flight`` is a whole number of at least 1."""
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise OptionError(
            f"{operation}: max_in_flight is {count!r}, expected a whole number >= 1.", field="max_in_flight"
        )


def several(many: Iterable[T], operation: str, *, of: str = "URIs", field: str = "uris") -> Iterable[T]:
    """``many``, which one URI is not, although a string can be iterated.

    Raises:
        OptionError: it is one URI, bytes, or nothing that can be iterated.
    """
    if isinstance(many, str | bytes | os.PathLike | Uri) or not isinstance(many, Iterable):
        found = f"one {type(many).__name__}" if isinstance(many, str | bytes | os.PathLike | Uri) else repr(many)
        raise OptionError(
            f"{operation}: got {found}, expected an iterable of {of}. Pass a list of {of}, even of one.", field=field
        )
    return many


_lender = KeptStores()
_inherited: list[KeptStores] = []
# A child must neither use nor drop what its parent had: dropping would end connections that the parent still uses.


def _after_fork_in_child() -> None:
    global _lender  # noqa: PLW0603  # a process forks as a whole
    _inherited.append(_lender)
    _lender = KeptStores()


os.register_at_fork(after_in_child=_after_fork_in_child)
