"""Lets no fork, and no end of the process, happen in the middle of a pyarrow request.

pyarrow's S3 client guards itself by a process-wide read-write lock. A child forked while another thread
is inside a request inherits the lock as taken, by a thread that it does not have, and the first S3
filesystem it makes hangs for ever (seen with pyarrow 26: 8 reading threads, every fork hung). So the
arrow engine passes this gate, and a fork waits until those that are inside have left. One that hangs is waited for
no longer than ``patience_s``; then the child does without that engine (``inheritance``).

At exit pyarrow finalizes its S3 client, which waits for the lock, too, and so for requests that hang. This takes the
place of its handler, and leaves it out if somebody is still inside.

Owns: the hooks that ``os.fork`` and the exit call. Must not know: stores. Both know requests of this floor only:
who reads through ``Store.filesystem`` in other threads while forking is not protected.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import time
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.fs as pafs

from s3dlio.concurrency import Lock, RLock, ended_by_interrupt, get_ident, skip_destructors
from s3dlio.storage.requests.inheritance import forfeit

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ForkGate", "passing"]


_EXIT_PATIENCE_S = 0.25
"""How long the end of the process waits for requests."""

_INTERRUPTED_PATIENCE_S = 0.1
"""The same after Ctrl-C, which should end it within a second, and has waited for them before."""


class _Request(NamedTuple):
    lock: Lock
    """Held while the request runs."""
    thread: int


class ForkGate:
    """Many requests at a time, or one fork.

    Args:
        patience_s: how long a fork or the end of the process waits for those inside.
    """

    def __init__(self, *, patience_s: float = 10.0) -> None:
        self._patience_s = patience_s
        # Reentrant: the handler of a signal may fork, or make a request, while its thread holds this.
        self._entry = RLock()
        self._inside: dict[int, _Request] = {}  # by the id of its lock
        self._mine: contextvars.ContextVar[_Request | None] = contextvars.ContextVar("request", default=None)
        self._stuck = False

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Hold off forks of other threads while the block runs. Blocks while a fork is under way."""
        outer = self._mine.get()
        if outer is not None and outer.thread == get_ident():  # a store on a filesystem that is a store
            yield
            return
        request = _Request(Lock(), get_ident())
        with request.lock:
            try:
                if outer is None:
                    with self._entry:
                        self._inside[id(request)] = request
                else:  # for a thread that is inside and waits for this one: not for a fork that waits for that
                    self._inside[id(request)] = request
                self._mine.set(request)
                yield
            finally:
                self._mine.set(outer)
                self._inside.pop(id(request), None)  # a child forked inside has forgotten it

    def close(self) -> None:
        """Before a fork: let nobody in and wait until everybody is out, but for the caller's own request."""
        self._entry.acquire()  # released by open() or reset()
        self._stuck = True  # also if Ctrl-C ends the wait
        self._stuck = not self._emptied(self._patience_s)

    def open(self) -> None:
        """After the fork, in the parent."""
        with contextlib.suppress(RuntimeError):  # Ctrl-C ended close() before it had this
            self._entry.release()

    def reset(self) -> None:
        """After the fork, in the child: its other threads are gone, and nobody is inside but the caller."""
        inside, self._inside = (
            self._inside,
            {id(request): request for request in self._requests() if self._is_own(request)},
        )
        try:
            self._entry.release()  # taken by close() in this thread, which is the one that there is
        except RuntimeError:  # Ctrl-C ended close() before; then it is of a thread that there is not
            self._entry = RLock()
            self._stuck = len(inside) > len(self._inside)  # nobody has waited for these
        if self._stuck:
            forfeit("s3")

    def finish(self) -> None:
        """At exit: finalize pyarrow's S3 client, unless that would wait for a request that hangs.

        Then the destructors of the process are left out, too: they wait for pyarrow's threads, which do listings and
        writes, and crash without a finalized client (seen with pyarrow 26: 4 of 5 exits).
        """
        interrupted = ended_by_interrupt()
        emptied = self._emptied(_INTERRUPTED_PATIENCE_S if interrupted else _EXIT_PATIENCE_S)
        if emptied or not (interrupted or skip_destructors()):
            pafs.ensure_s3_finalized()

    def _emptied(self, patience_s: float) -> bool:
        """Wait until nobody but the caller is inside; whether that came true in time."""
        deadline = time.monotonic() + patience_s
        while others := [request for request in self._requests() if not self._is_own(request)]:
            for request in others:
                if not request.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                    return False
                request.lock.release()
                self._inside.pop(id(request), None)  # Ctrl-C may have kept it from doing so
        return True

    def _requests(self) -> list[_Request]:
        return list(self._inside.values())

    def _is_own(self, request: _Request) -> bool:
        """Whether the caller is inside by it. By the thread, too: a signal may come before the context knows it."""
        return request is self._mine.get() or request.thread == get_ident()


_GATE = ForkGate()
# Module-level because the hooks are: a process forks and ends as a whole, and fork hooks cannot be taken back.
os.register_at_fork(before=_GATE.close, after_in_parent=_GATE.open, after_in_child=_GATE.reset)
if hasattr(pafs, "ensure_s3_finalized"):
    atexit.unregister(pafs.ensure_s3_finalized)
    atexit.register(_GATE.finish)

passing = _GATE.passing
