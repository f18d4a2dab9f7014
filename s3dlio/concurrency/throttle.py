"""Fewer requests at a time after a server asked for fewer: additive increase, multiplicative decrease.

Source: Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance", 1989; TCP does it.

Guarantees:
- no limit, and no lock taken, until the first ``refused``; none again once the limit
  has grown past what was inside then
- a limit never falls below one request; nobody waits for admission longer than he says
- ``close`` wakes everyone who waits
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from s3dlio.concurrency.signals import look_s

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Throttle"]


class Throttle:
    """Admits requests.

    Args:
        interval_s: the limit is halved at most once in so many seconds: all requests that were inside when the
            server got enough are refused, and together they are one signal.
        clock: seconds that only grow.

    Threads: any.
    """

    def __init__(self, *, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._inside: list[None] = []  # its length counts; append and pop are atomic
        self._limit: float | None = None
        self._ceiling = 0
        self._last_cut = float("-inf")
        self._waiting = 0
        self._closed = False
        self._changed = threading.Condition()  # reentrant: a signal handler may make requests

    @property
    def limit(self) -> float | None:
        """Requests admitted at a time; None for any number."""
        return self._limit

    @property
    def inside(self) -> int:
        """Requests that entered and have not left."""
        return len(self._inside)

    def enter(self, patience_s: float | None = None) -> None:
        """Take a place; waits for one while there is a limit, at most ``patience_s`` seconds, and then goes in."""
        if self._limit is not None:
            with self._changed:
                self._waiting += 1
                try:
                    self._wait_for_room(patience_s)
                finally:
                    self._waiting -= 1
                self._inside.append(None)
            return
        self._inside.append(None)

    def leave(self) -> None:
        """Give the place back. Exactly once for each ``enter``."""
        self._inside.pop()
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def succeeded(self) -> None:
        """A request was answered: one more at a time for every round of them."""
        if self._limit is None:
            return
        with self._changed:
            if self._limit is not None:
                self._limit += 1 / self._limit
                if self._limit > self._ceiling:
                    self._limit = None
                    self._changed.notify_all()
                else:
                    self._changed.notify()

    def refused(self) -> None:
        """The server asked for fewer requests. Called before ``leave``."""
        with self._changed:
            now = self._clock()
            if now - self._last_cut < self._interval_s:
                return
            self._last_cut = now
            inside = len(self._inside)
            if self._limit is None:
                self._ceiling = max(1, inside)
                self._limit = float(max(1, inside // 2))
            else:
                self._limit = max(1.0, self._limit / 2)

    def close(self) -> None:
        """Admit everyone, so that nobody waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_for_room(self, patience_s: float | None) -> None:
        until = float("inf") if patience_s is None else time.monotonic() + patience_s
        while not self._has_room() and (left_s := until - time.monotonic()) > 0:
            slice_s = min(left_s, look_s() or left_s)
            self._changed.wait(None if slice_s == float("inf") else slice_s)

    def _has_room(self) -> bool:
        return self._closed or self._limit is None or len(self._inside) < int(self._limit)
