import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest

from s3dlio.concurrency import Detached, Race, TooManyLeftError, in_main_thread
from s3dlio.errors import ClosedError

from ..threads import threads_begun


def call(threads, function, limit_s=30):
    with Race(threads) as race:
        race.start(function)
        return race.next(limit_s)


def threads_named(name):
    return threads_begun(f"s3dlio-{name}")


def ended(thread):
    thread.join(30)
    return not thread.is_alive()


@pytest.fixture
def threads():
    made = Detached("testing")
    yield made
    made.close()


def test_a_call_runs_elsewhere_and_answers(threads):
    assert call(threads, threading.current_thread).result() is not threading.current_thread()
    assert in_main_thread()
    assert not call(threads, in_main_thread).result()


def test_errors_cross_with_their_traceback(threads):
    def failing():
        raise KeyError("here")

    answer = call(threads, failing)
    assert isinstance(answer.error, KeyError)
    with pytest.raises(KeyError, match="here") as caught:
        answer.result()
    assert any(entry.name == "failing" for entry in caught.traceback)


def test_calls_one_after_another_share_a_thread(threads):
    assert len({call(threads, threading.get_ident).result() for _ in range(50)}) == 1


def test_the_callers_context_is_seen(threads):
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    assert call(threads, variable.get).result() == 7
    assert call(threads, lambda: variable.set(8)).error is None
    assert variable.get() == 7


def test_a_call_that_is_left_delivers_to_nobody_and_comes_back(threads):
    leave, returned = threading.Event(), threading.Event()

    def slow():
        leave.wait(30)
        returned.set()
        return "too late"

    with Race(threads) as race:
        race.start(slow)
        assert race.next(0.01) is None
    assert threads.left == 1
    (left,) = threads_named("testing")
    assert call(threads, lambda: "next").result() == "next", "another thread takes its place"
    leave.set()
    assert returned.wait(30)
    threads.close()
    assert ended(left)
    assert threads.left == 0


def test_what_hangs_is_bounded():
    leave = threading.Event()
    threads = Detached("bounded", max_left=3)
    for _ in range(3):
        assert call(threads, lambda: leave.wait(30), 0.01) is None
    with pytest.raises(TooManyLeftError, match="3 calls hang"):
        call(threads, lambda: None)
    stuck = threads_named("bounded")
    leave.set()
    threads.close()
    assert all(ended(thread) for thread in stuck)


def test_the_first_of_two_answers(threads):
    leave = threading.Event()
    with Race(threads) as race:
        assert race.start(lambda: leave.wait(30) and "first") == 0
        assert race.start(lambda: "second") == 1
        answer = race.next(30)
        assert (answer.number, answer.result()) == (1, "second")
        leave.set()
        answer = race.next(30)
        assert (answer.number, answer.result()) == (0, "first")
    assert threads.left == 0


def test_close_ends_idle_threads_and_is_final():
    threads = Detached("closing")
    call(threads, lambda: None)
    (thread,) = threads_named("closing")
    threads.close()
    threads.close()
    assert ended(thread)
    with pytest.raises(ClosedError):
        call(threads, lambda: None)


def test_dropping_ends_the_threads():
    threads = Detached("dropped")
    call(threads, lambda: None)
    (thread,) = threads_named("dropped")
    del threads
    gc.collect()
    assert ended(thread)


def test_a_thread_that_is_busy_at_close_ends_after_its_call():
    threads = Detached("busy")
    leave = threading.Event()
    with Race(threads) as race:
        race.start(lambda: leave.wait(30))
        (thread,) = threads_named("busy")
        threads.close()
        leave.set()
        assert race.next(30).result() is True
    assert ended(thread)


def test_many_callers_at_a_time(threads):
    barrier = threading.Barrier(8, timeout=30)
    found = []

    def caller(number):
        for turn in range(200):
            found.append(call(threads, lambda: (number, turn)).result() == (number, turn))  # noqa: B023 - called at once
            if turn == 0:
                barrier.wait()

    callers = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert found == [True] * 1600
    assert len(threads_named("testing")) <= 8


def test_a_forked_child_has_threads_of_its_own(threads):
    assert call(threads, lambda: 1).result() == 1
    child = os.fork()
    if child == 0:
        answer = call(threads, lambda: 2, 20)
        os._exit(0 if answer is not None and answer.result() == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert call(threads, lambda: 3).result() == 3


INTERRUPTED = """
import atexit, os, sys, threading
from s3dlio.concurrency import Detached, Race
threads = Detached("left")
atexit.register(print, "early handler")
def call():
    os.write(1, b"started\\n")  # print() may still hold the lock of stdout when the interpreter ends
    threading.Event().wait(60)
try:
    with Race(threads) as race:
        race.start(call)
        race.next(None)
except KeyboardInterrupt:
    if sys.argv[1] == "late":
        atexit.register(print, "late handler")
    if sys.argv[1] == "handled":
        sys.exit(7)
    raise
"""


@pytest.mark.parametrize(("how", "status"), [("left", -signal.SIGINT), ("late", -signal.SIGINT), ("handled", 7)])
def test_an_interrupt_ends_a_process_that_leaves_a_call(how, status):
    """At once, with every exit handler run exactly once, and with the status that Python gives it."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == status, err
    assert out.splitlines() == ["late handler", "early handler"][how != "late" :]
