"""Work done ahead of one consumer, in order, within a budget.

The loader's batches and the ordered fetch of objects are both "groups of tasks": a batch is a group of
one task a sample, a fetched range a group of one task.

Guarantees:
- groups come out in the order they went in, each after all of its tasks have ended
- the costs of the groups that are under way or waiting to be taken never add up to more than the budget,
  except for a single group that is larger than the whole budget: it runs alone
- a task's error comes out at its group's place in the order, the lowest task's first, with its traceback;
  nothing after it is delivered
- ``close`` is idempotent, wakes everyone, and waits at most ``_GRACE_S`` for tasks that are inside a request
- used in a forked child, it raises ClosedError: its threads live in the parent
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from s3dlio.concurrency.signals import look_s, start
from s3dlio.errors import ClosedError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

__all__ = ["Group", "ReadAhead"]

_GRACE_S = 0.5
"""How long close() waits for threads that are inside a request. They cannot be interrupted; a thread that
is still there is a daemon that finds the close flag when its request returns. Ctrl-C should end within 1 s."""


class Group(Protocol):
    """Tasks whose results are handed over together."""

    @property
    def cost(self) -> int:
        """What the group takes from the budget, e.g. bytes."""

    def __len__(self) -> int:
        """Number of tasks; zero is legal."""

    def run(self, task: int) -> None:
        """Do task number ``task``. Called once for each, by any thread, several at a time."""


G = TypeVar("G", bound=Group)


class _Open(Generic[G]):
    """A group under way: what is still to start, what is still to end, what went wrong."""

    __slots__ = ("error", "error_task", "group", "next_task", "running", "started", "tasks")

    def __init__(self, group: G) -> None:
        self.group = group
        self.tasks = len(group)
        self.next_task = 0
        self.running = 0
        self.error: BaseException | None = None
        self.error_task = -1

    @property
    def ended(self) -> bool:
        return self.running == 0 and (self.next_task == self.tasks)


class ReadAhead(Generic[G]):
    """Runs groups of tasks on threads of its own, ahead of one consumer.

    Args:
        groups: taken one at a time, under the lock, so it must be quick and do no I/O.
        threads: tasks that run at the same time.
        budget: sum of the costs of groups under way or ready.
        max_groups: groups under way or ready at any time.
        name: names the threads ``s3dlio-<name>-<n>``.

    Threads: one consumer; ``stop`` and ``close`` from anywhere.
    """

    def __init__(self, groups: Iterator[G], *, threads: int, budget: int, max_groups: int, name: str) -> None:
        if threads < 1 or budget < 1 or max_groups < 1:
            raise OptionError(
                f"read ahead: threads={threads}, budget={budget}, max_groups={max_groups}, expected all >= 1.",
                field="threads",
            )
        self._groups = groups
        self._budget = budget
        self._max_groups = max_groups
        self._open: deque[_Open[G]] = deque()
        self._used = 0
        self._exhausted = False
        self._source_error: BaseException | None = None
        self._closed = False
        self._pid = os.getpid()
        self._wait_s = 0.0
        self._pending: G | None = None  # taken from the source, waiting for room in the budget
        # Reentrant: a signal handler, or a garbage collection that drops the consumer's iterator, may call
        # close() in a thread that holds the lock. So close() replaces ``_open``, and code under the lock
        # works on one it has looked up once.
        lock = threading.RLock()
        self._work = threading.Condition(lock)  # there may be a task to start
        self._ready = threading.Condition(lock)  # the head group may have ended
        self._threads = [
            threading.Thread(target=self._serve, name=f"s3dlio-{name}-{n}", daemon=True) for n in range(threads)
        ]
        try:
            for thread in self._threads:
                start(thread)
        except BaseException:  # the machine has no more threads to give, or Ctrl-C
            self._threads = [thread for thread in self._threads if thread.ident is not None]
            self.close()
            raise
        # Not for correctness: a daemon thread that comes back from a request while the interpreter is being
        # torn down can abort the process.
        atexit.register(self.close)

    @property
    def wait_s(self) -> float:
        """Seconds that the consumer has waited for groups so far."""
        return self._wait_s

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> G:
        """The next group, once all of its tasks have ended. Blocks.

        Raises:
            ClosedError: after close, or in a process forked from the one that made this.
        """
        if self._pid != os.getpid():
            raise ClosedError("read ahead: used in a forked process, expected its own. Make a new iterator there.")
        began = time.perf_counter()
        with self._work:
            while True:
                if self._closed:
                    raise ClosedError("read ahead: closed, expected open. Make a new iterator.")
                waiting = self._open
                if waiting:
                    head = waiting[0]
                    if head.ended:
                        break
                elif self._exhausted:
                    if self._source_error is not None:
                        error, self._source_error = self._source_error, None
                        raise error
                    raise StopIteration
                self._ready.wait(look_s())
            waiting.popleft()
            self._used -= head.group.cost
            self._wait_s += time.perf_counter() - began
            self._work.notify_all()
        if head.error is not None:
            self.close()
            try:
                if isinstance(head.error, StopIteration):  # would pass for the end of the groups
                    raise RuntimeError("read ahead: a task raised StopIteration.") from head.error  # noqa: TRY004  # as in PEP 479
                raise head.error
            finally:
                head.error = None  # the traceback refers to this frame: break the cycle
        return head.group

    def stop(self) -> None:
        """Stop starting tasks and wake everyone, the consumer by a ClosedError. Waits for none: ``close`` follows."""
        with self._work:
            self._closed = True
            self._open = deque()
            self._work.notify_all()
            self._ready.notify_all()

    def close(self) -> None:
        """As ``stop``, and wait briefly for the running tasks. Idempotent."""
        atexit.unregister(self.close)
        if self._pid != os.getpid():
            self._closed = True  # the lock may have been held by a thread that the fork left behind
            return
        self.stop()
        deadline = time.monotonic() + _GRACE_S
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            opened, task = taken
            error: BaseException | None = None
            try:
                opened.group.run(task)
            except BaseException as caught:  # noqa: BLE001  # crosses to the consumer as a value
                error = caught
            self._finish(opened, task, error)
            del taken, opened, error

    def _take(self) -> tuple[_Open[G], int] | None:
        """The next task in order, waiting for room if there is none. None means: go home."""
        with self._work:
            while True:
                if self._closed:
                    return None
                opened = self._startable()
                if opened is not None:
                    task = opened.next_task
                    opened.next_task += 1
                    opened.running += 1
                    return opened, task
                if self._exhausted:
                    return None
                self._work.wait()

    def _startable(self) -> _Open[G] | None:
        """The newest group if it has tasks left, else a newly opened one if the budget admits it."""
        waiting = self._open
        while True:
            if waiting and waiting[-1].next_task < waiting[-1].tasks:
                return waiting[-1]
            if self._exhausted or len(waiting) >= self._max_groups:
                return None
            if self._pending is None and not self._pull():
                return None
            pending = self._pending
            assert pending is not None
            if waiting and self._used + pending.cost > self._budget:
                return None
            self._pending = None
            self._used += pending.cost
            waiting.append(_Open(pending))
            if len(pending) == 0:
                self._ready.notify_all()

    def _pull(self) -> bool:
        try:
            self._pending = next(self._groups)
        except StopIteration:
            self._exhausted = True
        except BaseException as error:  # noqa: BLE001  # raised by the consumer after the groups before it
            self._exhausted, self._source_error = True, error
        else:
            return True
        self._work.notify_all()
        self._ready.notify_all()
        return False

    def _finish(self, opened: _Open[G], task: int, error: BaseException | None) -> None:
        with self._work:
            opened.running -= 1
            if error is not None:
                if opened.error is None or task < opened.error_task:
                    opened.error, opened.error_task = error, task
                opened.next_task = opened.tasks  # the group fails: do not start its other tasks
                self._exhausted = True  # nor any group after it
                self._pending = None
                self._work.notify_all()
            if opened.ended:
                self._ready.notify_all()
