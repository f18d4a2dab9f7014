"""Waits that Ctrl-C interrupts, whenever it comes.

A signal interrupts a wait of the main thread, but one that comes after Python's last look and before the wait has
begun does not (seen: 1 of 20 interrupts right after the start of a call), nor does one that the kernel hands to
another thread. So the main thread looks again from time to time while it waits. No other thread gets signals.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["in_main_thread", "look_s", "start", "wait_for"]

_LOOK_S = 0.2
"""Seconds between the main thread's looks for signals: Ctrl-C ends within 1 s, of which other waits take 0.65."""


def in_main_thread() -> bool:
    """Whether this is the thread that Ctrl-C interrupts."""
    return threading.current_thread() is threading.main_thread()


def look_s() -> float | None:
    """How many seconds the calling thread may wait at a time; then it looks whether to wait on. None: any."""
    return _LOOK_S if in_main_thread() else None


def wait_for(event: threading.Event, limit_s: float) -> bool:
    """As ``event.wait``: whether it is set, within ``limit_s`` seconds."""
    until = time.monotonic() + limit_s
    with _interrupts():
        while not event.wait(min(max(0.0, until - time.monotonic()), look_s() or limit_s)):
            if time.monotonic() >= until:
                return False
    return True


def start(thread: threading.Thread) -> None:
    """As ``thread.start``, which waits for the thread's begin."""
    with _interrupts():
        thread.start()


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Let Ctrl-C out of a wait for an event as what it is.

    One that comes while the wait takes its lock again becomes a RuntimeError of the lock (python/cpython#78667), which
    no ``except KeyboardInterrupt`` sees. Or else the other thread gets that error, right after it has set the event; a
    thread that was to begin has not then, and Python says so on stderr. Conditions with an RLock have no such moment.
    """
    handled = sys.exception()  # the context of every error from here on
    try:
        yield
    except RuntimeError as error:
        interrupt = error.__context__
        if interrupt is None or interrupt is handled or isinstance(interrupt, Exception):
            raise
        raise interrupt from None
