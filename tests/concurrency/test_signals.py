"""Signals that come while the main thread waits, but do not interrupt its wait."""

import signal
import threading
import time

import pytest

from s3dlio.concurrency import Calls, Detached, Drain, Race, ReadAhead, Throttle, in_main_thread, wait_for
from s3dlio.concurrency.calls import in_order


class Work:
    """A group of one task, which presses Ctrl-C while the main thread waits, and then is stuck.

    The signal goes to the thread of the task: to the main thread's wait it is as one that came right before it began.
    """

    cost = 1

    def __init__(self):
        self.leave = threading.Event()
        self.left = False

    def __len__(self):
        return 1

    def __call__(self):
        assert not in_main_thread()
        threading.Event().wait(0.1)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        self.leave.wait(5)
        self.left = True

    def run(self, _task):
        self()


def read_ahead(work):
    with ReadAhead(iter([work]), threads=1, budget=1, max_groups=1, name="signals") as reading:
        next(reading)


def calls_in_order(work):
    next(in_order([(1, work)], threads=1, name="signals"))


def race(work):
    threads = Detached("signals")
    with Race(threads) as running:
        running.start(work)
        try:
            running.next(None)
        finally:
            threads.close()


def drain(work):
    def consume(items):
        if items != ["first"]:
            work.leave.wait(5)
            return
        began.set()
        work()

    began = threading.Event()
    draining = Drain(consume, lambda: None, capacity=1, gather_s=0.0, name="signals")
    try:
        draining.put("first")
        began.wait(5)
        for item in "second", "third":  # one waits; there is no room for another
            draining.put(item)
    finally:
        noted = work.left
        work.leave.set()
        draining.close()
        work.left = noted


def throttle(work):
    throttling = Throttle()
    throttling.enter()
    throttling.refused()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        throttling.enter(30)  # no room: one is inside
    finally:
        noted = work.left
        work.leave.set()
        thread.join(10)
        work.left = noted


@pytest.mark.parametrize("wait", [read_ahead, calls_in_order, race, drain, throttle])
def test_a_signal_that_does_not_interrupt_the_wait(wait):
    work = Work()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        wait(work)
    assert not work.left, "the wait saw the signal only when what it waited for had ended"
    assert time.monotonic() - began < 10
    work.leave.set()


def wait_for_an_event():
    wait_for(threading.Event(), 5)


def start_calls():
    with Calls(threads=1, name="signals") as calls:
        calls.submit(time.time)


def start_reading():
    ReadAhead(iter([]), threads=2, budget=1, max_groups=1, name="signals")


def start_draining():
    Drain(lambda _items: None, lambda: None, capacity=1, gather_s=0.0, name="signals")


def start_a_race():
    with Race(Detached("signals")) as running:
        running.start(time.time)


class Exit(SystemExit):
    """What a handler may raise in place of KeyboardInterrupt."""


@pytest.mark.parametrize("signalled", [KeyboardInterrupt, Exit])
@pytest.mark.parametrize("wait", [wait_for_an_event, start_calls, start_reading, start_draining, start_a_race])
def test_a_signal_while_a_wait_takes_its_lock_again(wait, signalled, monkeypatch):
    """python/cpython#78667: the lock is not held then, and its release hides the interrupt."""
    plain = threading.Event.wait

    def interrupted(event, timeout=None):
        if not in_main_thread():
            return plain(event, timeout)
        try:
            raise signalled
        finally:
            event._cond.release()

    with monkeypatch.context() as patch, pytest.raises(signalled) as caught:
        patch.setattr(threading.Event, "wait", interrupted)
        wait()
    assert caught.value.__cause__ is None


def test_an_error_of_a_start_that_no_signal_has_caused(monkeypatch):
    def no_more(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(RuntimeError, match="can't start"):
        start_reading()


def test_an_error_of_a_start_while_an_interrupt_is_handled(monkeypatch):
    """Which is the context of that error, but not its cause."""

    def no_more(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more)
    try:
        raise KeyboardInterrupt  # noqa: TRY301 - that is the case
    except KeyboardInterrupt:
        with pytest.raises(RuntimeError, match="can't start"):
            start_reading()
