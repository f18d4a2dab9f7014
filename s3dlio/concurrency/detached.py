"""Calls on threads that their caller can stop waiting for.

A foreign call that hangs cannot be ended, but it can be left: the caller goes on (by a limit of time, by
Ctrl-C, or because another call answered first), and the thread comes back to the others when the call returns.

Guarantees:
- a thread is used again; idle ones end with ``close`` or when the owner is dropped
- a call that was left delivers to nobody; it counts as left until it returns, and at most ``max_left`` do
- a call sees the context variables of the one who started it
- no locks: an interrupt at any point leaves everything usable
- a process ended by Ctrl-C while calls are left neither waits for them nor crashes in its teardown
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import queue
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from s3dlio.concurrency.exiting import die_by_interrupt, ended_by_interrupt
from s3dlio.concurrency.signals import look_s, start
from s3dlio.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = ["Detached", "Race", "TooManyLeftError"]

T = TypeVar("T")

_MAX_IDLE = 64
"""Idle threads that are kept; those of a burst beyond it end."""


class TooManyLeftError(RuntimeError):
    """So many calls hang that no further one is started."""


class _Job:
    """One call, and where its answer goes."""

    __slots__ = ("__weakref__", "answers", "context", "done", "function", "number")

    def __init__(self, function: Callable[[], Any], number: int, answers: queue.SimpleQueue[Answer[Any]]) -> None:
        self.function: Callable[[], Any] | None = function
        self.number = number
        self.answers = answers
        self.context = contextvars.copy_context()
        self.done = False


class Answer(Generic[T]):
    """How a call ended."""

    __slots__ = ("_error", "_value", "number")

    def __init__(self, number: int, value: T | None, error: BaseException | None) -> None:
        self.number = number
        self._value = value
        self._error = error

    @property
    def error(self) -> BaseException | None:
        """What the call raised; None if it returned."""
        return self._error

    def result(self) -> T:
        """What the call returned, or raises what it raised. Once."""
        error, self._error = self._error, None
        if error is None:
            return self._value  # type: ignore[return-value] # None only where T admits it
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame: break the cycle


class _Crew:
    """What the threads share; never refers to the ``Detached`` that owns it, or dropping that would not end them."""

    def __init__(self) -> None:
        # Lists and sets, whose single operations are atomic.
        self.idle: list[queue.SimpleQueue[_Job | None]] = []
        self.left: set[_Job] = set()
        self.closed = False
        self.handlers = 0
        self.pid = os.getpid()

    def end(self) -> None:
        """End the idle threads, and the others when their calls return."""
        atexit.unregister(self.part)
        self.closed = True
        if self.pid != os.getpid():
            return  # the threads are those of another process
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().put(None)

    def leave(self, job: _Job) -> None:
        """Note that nobody waits for ``job`` any more."""
        self.left.add(job)
        if job.done:  # meanwhile
            self.left.discard(job)
            return
        # Registered last, it runs before every other handler that is there now.
        atexit.unregister(self.part)
        atexit.register(self.part)
        self.handlers = atexit._ncallbacks()  # noqa: SLF001 - the only way to know who else is there

    def part(self) -> None:
        """At exit: after an unhandled Ctrl-C, with calls still inside, end the process by SIGINT.

        That is how Python itself would end it, but only after a teardown in which a thread that returns from a
        foreign call can abort the process, and static destructors wait for it (pyarrow's thread pool). Not if handlers
        were registered since: they have run, and would run again.
        """
        if self.pid != os.getpid() or not self.left or not ended_by_interrupt():
            return
        if atexit._ncallbacks() != self.handlers:  # noqa: SLF001 - as above
            return
        atexit.unregister(self.part)
        atexit._run_exitfuncs()  # noqa: SLF001 - everybody else's, which would not get their turn
        die_by_interrupt()


class Detached:
    """Threads for calls that can be left. Starts none before the first call.

    Args:
        name: names the threads ``s3dlio-<name>``.
        max_left: calls that were left and have not returned, after which no further one is started: a bound
            for threads that hang for ever.

    Threads: any. In a forked child it has no threads and starts its own.
    """

    def __init__(self, name: str, *, max_left: int = 128) -> None:
        self._name = name
        self._max_left = max_left
        self._renew()

    @property
    def left(self) -> int:
        """Calls that were left and have not returned."""
        return len(self._crew.left)

    def close(self) -> None:
        """End the threads: idle ones now, the others when their calls return. Waits for none. Idempotent."""
        self._crew.end()

    def _renew(self) -> None:
        self._crew = _Crew()
        weakref.finalize(self, self._crew.end).atexit = False

    def _submit(self, job: _Job) -> None:
        if self._crew.pid != os.getpid():
            self._renew()
        crew = self._crew
        if crew.closed:
            raise ClosedError(f"{self._name}: closed, expected open. Open it again.")
        if len(crew.left) >= self._max_left:
            raise TooManyLeftError(f"{len(crew.left)} calls hang")
        try:
            inbox = crew.idle.pop()
        except IndexError:
            inbox = queue.SimpleQueue()
            start(threading.Thread(target=_serve, args=(crew, inbox), name=f"s3dlio-{self._name}", daemon=True))
        inbox.put(job)


class Race(Generic[T]):
    """Calls started for one answer. Leaving the ``with`` block leaves those that have not answered.

    Args:
        threads: runs them.
    """

    def __init__(self, threads: Detached) -> None:
        self._threads = threads
        self._answers: queue.SimpleQueue[Answer[T]] = queue.SimpleQueue()
        self._open: list[_Job] = []

    def start(self, function: Callable[[], T]) -> int:
        """Start a call; returns its number, from 0.

        Raises:
            TooManyLeftError: so many calls hang that this one was not started.
            ClosedError: the threads were closed.
        """
        job = _Job(function, len(self._open), self._answers)
        self._open.append(job)
        try:
            self._threads._submit(job)  # noqa: SLF001 - one module
        except BaseException:
            job.done = True
            raise
        return job.number

    def next(self, limit_s: float | None) -> Answer[T] | None:
        """The next answer, in the order of their coming; None if none comes within ``limit_s`` seconds."""
        left_s = float("inf") if limit_s is None else limit_s
        slice_s = look_s() or left_s
        while True:
            try:
                return self._answers.get(timeout=None if min(slice_s, left_s) == float("inf") else min(slice_s, left_s))
            except queue.Empty:
                left_s -= slice_s
                if left_s <= 0:
                    return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for job in self._open:
            if not job.done:
                self._threads._crew.leave(job)  # noqa: SLF001 - one module
        self._open.clear()


def _serve(crew: _Crew, inbox: queue.SimpleQueue[_Job | None]) -> None:
    while (job := inbox.get()) is not None:
        function, job.function = job.function, None
        assert function is not None
        answer: Answer[Any]
        try:
            answer = Answer(job.number, job.context.run(function), None)
        except BaseException as error:  # noqa: BLE001  # crosses to the caller as a value
            answer = Answer(job.number, None, error)
        del function
        job.done = True
        crew.left.discard(job)
        answers = job.answers
        del job
        # Idle first, so that the caller's next call finds this thread.
        kept = not crew.closed and len(crew.idle) < _MAX_IDLE
        if kept:
            crew.idle.append(inbox)
        answers.put(answer)
        del answer, answers
        if not kept:
            return
        if crew.closed:
            with contextlib.suppress(ValueError):  # close() took it, and has sent the None
                crew.idle.remove(inbox)
                return
