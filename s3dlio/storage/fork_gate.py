"""Lets no fork happen in the middle of a pyarrow request.

pyarrow's S3 client guards itself by a process-wide read-write lock. A child forked while another thread
is inside a request inherits the lock as taken, by a thread that it does not have, and the first S3
filesystem it makes hangs for ever (seen with pyarrow 26: 8 reading threads, every fork hung). So the
arrow engine passes this gate, and a fork waits until those that are inside have left.

Owns: the hook that ``os.fork`` calls. Must not know: stores. Forks wait for requests of this floor only:
who reads through ``Store.filesystem`` in other threads while forking is not protected.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
from typing import TYPE_CHECKING

from s3dlio.concurrency import Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ForkGate", "passing"]


class ForkGate:
    """Many requests at a time, or one fork."""

    def __init__(self) -> None:
        self._entry = Lock()
        self._inside: dict[int, Lock] = {}  # one lock a request, held while it runs; by its id
        self._mine: contextvars.ContextVar[Lock | None] = contextvars.ContextVar("request", default=None)

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Hold off forks of other threads while the block runs. Blocks while a fork is under way."""
        if self._mine.get() is not None:  # a store on a filesystem that is a store: already inside
            yield
            return
        request = Lock()
        with request:
            with self._entry:
                self._inside[id(request)] = request
            token = self._mine.set(request)
            try:
                yield
            finally:
                self._mine.reset(token)
                del self._inside[id(request)]

    def close(self) -> None:
        """Before a fork: let nobody in and wait until everybody is out, but for the caller's own request."""
        self._entry.acquire()  # released by open() or reset()
        own = self._mine.get()
        for request in list(self._inside.values()):
            if request is not own:
                with request:
                    pass

    def open(self) -> None:
        """After the fork, in the parent."""
        self._entry.release()

    def reset(self) -> None:
        """After the fork, in the child: its other threads are gone, and nobody is inside but the caller."""
        own = self._mine.get()
        self._inside = {} if own is None else {id(own): own}
        self._entry = Lock()


_GATE = ForkGate()
# Module-level because the hook is: a process forks as a whole, and hooks cannot be taken back.
os.register_at_fork(before=_GATE.close, after_in_parent=_GATE.open, after_in_child=_GATE.reset)

passing = _GATE.passing
