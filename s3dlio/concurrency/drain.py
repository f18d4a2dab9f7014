"""Items of many threads, handed to one thread that writes them down in batches.

Owns: the hand-over and its thread. Must not know: what an item is.

Guarantees:
- every item for which ``put`` returned True is consumed, once, in the order of the puts, before ``close`` returns
- no more than ``capacity`` items wait: a ``put`` that finds no room waits for it
- an item waits at most ``gather_s`` for others to be consumed with it
- an error of ``consume`` ends the drain: later puts return False, and ``close`` raises the error once
- at the end of the process, a child of multiprocessing included, an open drain is closed
- in a forked child it does nothing: its thread and its items belong to the parent
"""

from __future__ import annotations

import os
import threading
from multiprocessing.util import Finalize
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Generic, TypeVar

from s3dlio.concurrency.signals import look_s, start

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Drain"]

T = TypeVar("T")

_AFTER_CHILDREN = -1
"""Priority at exit: multiprocessing has ended and joined this process's children by then."""


class Drain(Generic[T]):
    """Hands items to ``consume``, which one thread of its own calls with lists of them.

    Args:
        consume: takes one or more items. Never called by two threads at a time, nor after it failed.
        finish: called once, after the last ``consume``, also when that failed. Its error comes out of ``close``.
        capacity: items that may wait, at least 1.
        gather_s: seconds that an item waits for others. More makes larger batches, and more is lost by a kill.
        name: names the thread ``s3dlio-<name>``.

    Threads: ``put`` and ``close`` from any, also from finalizers that run inside of ``put``.
    """

    def __init__(
        self,
        consume: Callable[[list[T]], None],
        finish: Callable[[], None],
        *,
        capacity: int,
        gather_s: float,
        name: str,
    ) -> None:
        self._consume = consume
        self._finish = finish
        self._capacity = capacity
        self._batch = max(1, capacity // 2)  # taken at once, so that puts find room while it is consumed
        self._gather_s = gather_s
        self._waiting: list[T] = []
        self._closed = False
        self._ended = False  # closed or failed
        self._finished = False
        self._error: BaseException | None = None
        self._pid = os.getpid()
        # Reentrant: a garbage collection inside of put() may run a finalizer that puts.
        self._lock = RLock()
        self._work = threading.Condition(self._lock)  # there is an item, a full batch, or the end
        self._room = threading.Condition(self._lock)
        self._closing = threading.Lock()  # one caller of close() does the work, the others wait for it
        self._thread = threading.Thread(target=self._serve, name=f"s3dlio-{name}", daemon=True)
        start(self._thread)
        self._at_exit = Finalize(None, self.close, exitpriority=_AFTER_CHILDREN)

    @property
    def error(self) -> BaseException | None:
        """What ``consume`` raised; None while all is well."""
        return self._error

    def put(self, item: T) -> bool:
        """Hand over ``item``; waits while ``capacity`` items wait. False: closed or failed, ``item`` is not taken."""
        if self._pid != os.getpid():
            return False  # before the lock, which a thread of the parent may have held at the fork
        with self._lock:
            while len(self._waiting) >= self._capacity and not self._ended and get_ident() != self._thread.ident:
                self._room.wait(look_s())
            if self._ended:
                return False
            self._waiting.append(item)
            count = len(self._waiting)
            if count == 1 or count == self._batch:  # noqa: PLR1714 - a set would be made at each call
                self._work.notify()
            return True

    def close(self) -> None:
        """Consume what waits, end the thread, and call ``finish``. Idempotent.

        Raises:
            BaseException: what ``consume`` or ``finish`` raised; the first call only.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            self._closed = self._ended = True
            self._work.notify()
            self._room.notify_all()
        with self._closing:
            self._thread.join()
            if self._finished:
                return
            self._finished = True
            self._at_exit.cancel()
            try:
                if self._error is not None:
                    raise self._error
            finally:
                self._finish()

    def _serve(self) -> None:
        while batch := self._take():
            try:
                self._consume(batch)
            except BaseException as error:  # noqa: BLE001 - comes out of close()
                with self._lock:
                    self._error = error
                    self._ended = True
                    self._waiting = []
                    self._room.notify_all()
                return

    def _take(self) -> list[T]:
        """What waits, once something does; nothing at the end."""
        with self._lock:
            while not self._waiting and not self._closed:
                self._work.wait()
            if not self._closed and len(self._waiting) < self._batch:
                self._work.wait(self._gather_s)
            batch, self._waiting = self._waiting, []
            self._room.notify_all()
            return batch
