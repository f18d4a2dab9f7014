"""A gate that keeps TensorFlow's threads out of Python when the interpreter ends.

tf.data destroys an iterator by waiting for its threads. A thread that wants to run Python while the interpreter is
being torn down never gets to, so the process hangs; it does with ``from_generator(...).prefetch(1)`` alone
(TensorFlow 2.21). So at exit the gate refuses entry, which fills tf.data's buffers with errors, and holds the
interpreter until nobody has come for a while.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import threading
import time
import weakref
from typing import TYPE_CHECKING

from s3dlio.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ExitGate"]

_QUIET_S = 0.2
"""Refused threads come again at once, until their buffer is full; this is many times what one needs for that."""
_LIMIT_S = 5.0
"""The longest that the interpreter is held."""


class ExitGate:
    """Counts threads in and out.

    Args:
        wake: called once at exit; makes those inside leave.

    Threads: any.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._changed = threading.Condition()
        self._inside = 0
        self._last_s = -_QUIET_S  # when somebody came or left; nobody has
        self._shut = False
        at_exit = functools.partial(_shut, weakref.ref(self))
        atexit.register(at_exit)
        weakref.finalize(self, atexit.unregister, at_exit).atexit = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Run the block inside.

        Raises:
            ClosedError: the interpreter is ending.
        """
        with self._changed:
            self._count(0 if self._shut else 1)
            if self._shut:
                raise ClosedError("read: the interpreter is ending, expected it to run.")
        try:
            yield
        finally:
            with self._changed:
                self._count(-1)

    def _count(self, change: int) -> None:
        self._inside += change
        self._last_s = time.monotonic()
        self._changed.notify_all()

    def shut(self) -> None:
        """Refuse entry, and wait until nobody is inside or comes any more, at most ``_LIMIT_S``."""
        self._shut = True
        self._wake()
        end = time.monotonic() + _LIMIT_S
        with self._changed:
            while (now := time.monotonic()) < end:
                quiet_until = end if self._inside else self._last_s + _QUIET_S
                if quiet_until <= now:
                    return
                self._changed.wait(min(quiet_until, end) - now)


def _shut(reference: weakref.ref[ExitGate]) -> None:
    gate = reference()
    if gate is not None:
        gate.shut()
