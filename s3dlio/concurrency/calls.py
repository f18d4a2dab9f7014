"""Calls that come one by one, run on threads.

``ReadAhead`` is for a plan known beforehand; this is for callers that know nothing of each other (``Calls``), and for
work that is taken from the caller's own iterator in the caller's own thread (``in_order``).

Guarantees:
- at most ``threads`` calls run at a time, begun in the order in which they were submitted
- threads are started when there is work for them; those of ``Calls`` end when there is none, those of ``in_order``
  with it
- a future cancelled before its call began keeps it from running
- ``close`` is idempotent, cancels what has not begun, and waits at most ``_GRACE_S`` for what has, however often called
- used in a forked child, it raises ClosedError: its threads live in the parent
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, cast

from s3dlio.concurrency.signals import look_s, start
from s3dlio.errors import ClosedError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

__all__ = ["Calls", "Future", "in_order"]

T = TypeVar("T")

_GRACE_S = 0.5
"""As for ``ReadAhead``: a request cannot be interrupted, and Ctrl-C should end within 1 s."""


class _Job(Protocol):
    def run(self) -> None: ...
    def cancel(self) -> object: ...


class Calls:
    """Runs what is submitted, at most ``threads`` calls at a time.

    Args:
        threads: calls that run at the same time, >= 1.
        name: names the threads ``s3dlio-<name>``.
        keep: let idle threads wait for more until ``close``, which must then come. Else they end.

    Threads: any.
    """

    def __init__(self, *, threads: int, name: str, keep: bool = False) -> None:
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise OptionError(f"calls: threads={threads!r}, expected a whole number >= 1.", field="threads")
        self._limit = threads
        self._name = name
        self._keep = keep
        self._queue: deque[_Job] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False
        self._patient_until = 0.0
        self._pid = os.getpid()
        # Reentrant: a garbage collection inside the lock may drop an iterator whose end calls close().
        self._work = threading.Condition(threading.RLock())

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """The future of ``call``, which runs as soon as a thread is free. Never blocks on other calls.

        Raises:
            ClosedError: after ``close``, or in a process forked from the one that made this.
        """
        future: Future[T] = Future()
        self.put(_FutureJob(future, call))
        return future

    def put(self, job: _Job) -> None:
        """As ``submit``, for a job that keeps its result itself."""
        if self._pid != os.getpid():
            raise ClosedError(f"{self._name}: used in a forked process, expected its own. Make a new one there.")
        with self._work:
            if self._closed:
                raise ClosedError(f"{self._name}: closed, expected open. Make a new one.")
            self._queue.append(job)
            if len(self._queue) > self._idle and len(self._threads) < self._limit:
                self._start_thread()
            self._work.notify()

    def drop(self) -> None:
        """Cancel what has not begun."""
        with self._work:
            dropped, self._queue = self._queue, deque()
        for job in dropped:
            job.cancel()

    def close(self) -> None:
        """Cancel what has not begun, and wait briefly for what has. Idempotent."""
        if self._pid != os.getpid():
            return  # the lock may have been held by a thread that the fork left behind
        with self._work:
            if not self._closed:
                self._closed = True
                self._patient_until = (
                    time.monotonic() + _GRACE_S
                )  # for the exit of the process, too, which closes again
            running = tuple(self._threads)
            self._work.notify_all()
        self.drop()
        for thread in running:
            # One whose start() was interrupted by Ctrl-C may not be there yet; it finds the close flag.
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(max(0.0, self._patient_until - time.monotonic()))

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"s3dlio-{self._name}", daemon=True)
        if not self._threads:
            # Not for correctness: a daemon thread that comes back from a request while the interpreter is being
            # torn down can abort the process. Only while there are threads, or it would keep this object alive.
            atexit.register(self.close)
        self._threads.add(thread)
        try:
            start(thread)
        except RuntimeError:  # the machine has no more threads to give
            self._threads.discard(thread)
            if not self._threads:
                atexit.unregister(self.close)
                self._queue.pop()
                raise

    def _serve(self) -> None:
        while (job := self._take()) is not None:
            job.run()
            del job

    def _take(self) -> _Job | None:
        """The next job. None means: go home."""
        with self._work:
            while True:
                if self._queue:
                    return self._queue.popleft()
                if self._closed or not self._keep:
                    break
                self._idle += 1
                try:
                    self._work.wait()
                finally:
                    self._idle -= 1
            self._threads.discard(threading.current_thread())
            if not self._threads:
                atexit.unregister(self.close)
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def in_order(
    work: Iterable[tuple[int, Callable[[], T]]], *, threads: int, name: str, budget: int | None = None
) -> Iterator[T]:
    """The results of calls that run concurrently, in the order of ``work``.

    After an error what has not begun is dropped, ``work`` is not asked for more, and the error comes out at once: it
    does not wait for slower calls before it.

    Args:
        work: (cost, call) pairs. Taken in the consumer's thread, at most ``2 * threads`` ahead of it.
        threads: calls at the same time, >= 1.
        name: of the threads.
        budget: sum of the costs of calls whose results were not taken yet. One call above it runs alone.
    """
    waiting: deque[_Task[T]] = deque()
    used = 0
    with Calls(threads=threads, name=name, keep=True) as calls:
        run = _Run(calls)
        for cost, call in work:
            while waiting and (len(waiting) >= 2 * threads or (budget is not None and used + cost > budget)):
                used -= waiting[0].cost
                yield run.result_of(waiting.popleft())
            run.check()
            waiting.append(_Task(run, cost, call))
            calls.put(waiting[-1])
            used += cost
        while waiting:
            yield run.result_of(waiting.popleft())


class _Run:
    """What the calls of one ``in_order`` share: the first error, and how its consumer is woken."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.ended = threading.Condition(threading.RLock())  # a call has
        self.error: BaseException | None = None

    def result_of(self, task: _Task[T]) -> T:
        """The result, once it is there, or the first error of any call."""
        with self.ended:
            while not task.done and self.error is None:
                self.ended.wait(look_s())
        self.check()
        return cast("T", task.result)

    def check(self) -> None:
        """Raise the first error, if there is one."""
        error, self.error = self.error, None  # its traceback refers to this object: break the cycle
        if error is not None:
            try:
                raise error
            finally:
                del error

    def fail(self, error: BaseException) -> None:
        """Note the error of a call, and begin no other."""
        with self.ended:
            if self.error is None:
                self.error = error
            self.ended.notify()
        self._calls.drop()


class _Task(Generic[T]):
    """One call of ``in_order``."""

    __slots__ = ("_call", "_run", "cost", "done", "result")

    def __init__(self, run: _Run, cost: int, call: Callable[[], T]) -> None:
        self._run = run
        self._call = call
        self.cost = cost
        self.done = False
        self.result: T | None = None

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:  # noqa: BLE001  # crosses to the consumer as a value
            self._run.fail(error)
            return
        with self._run.ended:
            self.done = True
            self._run.ended.notify()

    def cancel(self) -> None:
        """Nobody waits for it any more."""


class _FutureJob(Generic[T]):
    """One call of ``Calls.submit``."""

    __slots__ = ("_call", "_future")

    def __init__(self, future: Future[T], call: Callable[[], T]) -> None:
        self._future = future
        self._call = call

    def run(self) -> None:
        future = self._future
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = self._call()
        except BaseException as error:  # noqa: BLE001  # crosses to the consumer as a value
            future.set_exception(error)
            del self._future, future  # the error's traceback refers to this frame: break the cycle
        else:
            future.set_result(result)

    def cancel(self) -> object:
        return self._future.cancel()
