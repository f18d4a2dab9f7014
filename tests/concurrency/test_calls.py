import functools
import gc
import multiprocessing
import subprocess
import sys
import threading

import pytest

from s3dlio.concurrency.calls import Calls, in_order
from s3dlio.errors import ClosedError, OptionError

from ..threads import all_ended, threads_begun


def running(name):
    return threads_begun(f"s3dlio-{name}")


class Gauge:
    """Counts how many are inside, and lets them out when the test says so."""

    def __init__(self):
        self.changed = threading.Condition()
        self.inside = self.most = self.begun = 0
        self.leave = threading.Event()

    def __call__(self):
        with self.changed:
            self.inside += 1
            self.begun += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
        assert self.leave.wait(30)
        with self.changed:
            self.inside -= 1

    def wait_for(self, inside):
        with self.changed:
            assert self.changed.wait_for(lambda: self.inside == inside, 30)


def test_results_and_errors_reach_the_caller():
    with Calls(threads=2, name="results") as calls:
        futures = [calls.submit(functools.partial(divmod, n, n % 3)) for n in range(9)]
        for n, future in enumerate(futures):
            if n % 3:
                assert future.result(10) == divmod(n, n % 3)
            else:
                with pytest.raises(ZeroDivisionError):
                    future.result(10)
    assert all_ended("s3dlio-results")


def test_no_more_threads_than_allowed_and_none_when_idle():
    gauge = Gauge()
    calls = Calls(threads=3, name="bound")
    futures = [calls.submit(gauge) for _ in range(50)]
    gauge.wait_for(3)
    assert len(running("bound")) == 3
    gauge.leave.set()
    for future in futures:
        future.result(30)
    assert gauge.most == 3
    assert all_ended("s3dlio-bound"), "an idle one has no threads"
    assert calls.submit(lambda: 5).result(30) == 5, "and starts new ones"
    calls.close()


def test_calls_begin_in_the_order_they_came():
    begun = []
    with Calls(threads=1, name="order") as calls:
        futures = [calls.submit(functools.partial(begun.append, n)) for n in range(100)]
        futures[-1].result(30)
    assert begun == list(range(100))


def test_a_cancelled_call_never_runs():
    gauge, ran = Gauge(), []
    with Calls(threads=1, name="cancel") as calls:
        first = calls.submit(gauge)
        gauge.wait_for(1)
        second = calls.submit(functools.partial(ran.append, 2))
        third = calls.submit(functools.partial(ran.append, 3))
        assert second.cancel()
        gauge.leave.set()
        first.result(30)
        third.result(30)
    assert ran == [3]


def test_close_cancels_what_waits_and_does_not_wait_long_for_what_is_stuck():
    gauge = Gauge()
    calls = Calls(threads=1, name="close")
    stuck = calls.submit(gauge)
    gauge.wait_for(1)
    waiting = calls.submit(gauge)
    calls.close()
    calls.close()
    assert waiting.cancelled()
    assert not stuck.done()
    with pytest.raises(ClosedError, match="closed"):
        calls.submit(gauge)
    (thread,) = running("close")
    gauge.leave.set()
    thread.join(30)
    assert stuck.done()
    assert gauge.begun == 1


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_an_illegal_number_of_threads(threads):
    with pytest.raises(OptionError, match="whole number"):
        Calls(threads=threads, name="x")


def test_the_machine_has_no_more_threads(monkeypatch):
    gauge = Gauge()
    with Calls(threads=3, name="few") as calls:
        futures = [calls.submit(gauge)]
        gauge.wait_for(1)

        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            futures.append(calls.submit(gauge))  # the thread that there is will do it
        gauge.leave.set()
        for future in futures:
            future.result(30)
        for thread in running("few"):
            thread.join(30)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            calls.submit(gauge)
        monkeypatch.undo()
        assert calls.submit(lambda: 1).result(30) == 1


def test_a_second_close_does_not_wait_again(monkeypatch):
    """The exit of the process closes what a ``with`` has closed: Ctrl-C is to end it within a second."""
    waits, gauge = [], Gauge()
    with Calls(threads=1, name="twice") as calls:
        calls.submit(gauge)
        gauge.wait_for(1)
    (thread,) = running("twice")
    monkeypatch.setattr(thread, "join", waits.append)
    calls.close()
    monkeypatch.undo()
    gauge.leave.set()
    thread.join(30)
    assert waits == [0.0]


def test_close_after_an_interrupt_in_the_middle_of_a_start(monkeypatch):
    """Ctrl-C may come between making a thread and its start."""

    def interrupt(_thread):
        raise KeyboardInterrupt

    calls = Calls(threads=1, name="interrupt", keep=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt)
        with pytest.raises(KeyboardInterrupt):
            calls.submit(int)
    calls.close()


def test_kept_threads_wait_for_more_until_close():
    calls = Calls(threads=4, name="keep", keep=True)
    for n in range(100):
        assert calls.submit(functools.partial(int, n)).result(30) == n
    assert 1 <= len(running("keep")) <= 4
    calls.close()
    assert all_ended("s3dlio-keep")


def test_used_in_a_forked_child():
    calls = Calls(threads=1, name="fork")
    assert calls.submit(lambda: 1).result(30) == 1

    def child():
        with pytest.raises(ClosedError, match="forked"):
            calls.submit(lambda: 1)
        calls.close()
        assert list(in_order([(0, lambda: 2)], threads=1, name="child")) == [2]

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    calls.close()


def test_the_process_ends_although_a_call_is_stuck():
    program = """
import threading
from s3dlio.concurrency.calls import Calls
begun = threading.Event()
def stuck():
    begun.set()
    threading.Event().wait()
Calls(threads=1, name="x").submit(stuck)
assert begun.wait(30)
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_in_order_whatever_ends_first():
    late = threading.Event()

    def call(n):
        if n == 0:
            assert late.wait(30)
        if n == 3:
            late.set()
        return n

    work = ((0, functools.partial(call, n)) for n in range(200))
    assert list(in_order(work, threads=4, name="order")) == list(range(200))
    assert all_ended("s3dlio-order")


def test_work_is_taken_by_the_consumer_and_not_far_ahead():
    taken, threads = [], set()

    def work():
        for n in range(100):
            taken.append(n)
            threads.add(threading.get_ident())
            yield 0, functools.partial(int, n)

    results = in_order(work(), threads=4, name="lazy")
    assert taken == []
    for n, result in enumerate(results):
        assert result == n
        assert len(taken) <= n + 1 + 2 * 4
    assert threads == {threading.get_ident()}


def test_the_budget_bounds_what_is_taken_ahead():
    costs = [5, 5, 100, 1, 1, 5, 6, 5]
    held = []
    most = []

    def work():
        for cost in costs:
            held.append(cost)
            yield cost, functools.partial(int, cost)
            most.append(list(held))

    done = []
    for result in in_order(work(), threads=50, name="budget", budget=10):
        done.append(result)
        held.remove(result)
    assert done == costs
    assert [10] not in most
    assert all(sum(waiting) <= 10 or len(waiting) == 1 for waiting in most)


def test_an_error_does_not_wait_for_slower_calls_before_it():
    gauge = Gauge()
    begun = []

    def fail():
        gauge.wait_for(1)
        raise KeyError("second")

    def work():
        yield 0, gauge
        yield 0, fail
        for n in range(1000):
            begun.append(n)
            yield 0, functools.partial(int, n)

    with pytest.raises(KeyError, match="second"):
        list(in_order(work(), threads=2, name="error"))
    assert len(begun) <= 4
    gauge.leave.set()
    for thread in running("error"):
        thread.join(30)


def test_an_error_leaves_no_cycle_behind():
    def fail():
        raise KeyError("x")

    class Held:
        pass

    import weakref

    held = Held()
    alive = weakref.ref(held)

    def work(held):
        yield 0, fail
        yield 0, functools.partial(id, held)

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(KeyError) as caught:
            list(in_order(work(held), threads=1, name="cycle"))
        del held, caught
        assert alive() is None
    finally:
        gc.enable()


def test_dropping_the_results_stops_the_work():
    begun = []
    results = in_order(((0, functools.partial(begun.append, n)) for n in range(1000)), threads=2, name="drop")
    next(results)
    results.close()
    assert all_ended("s3dlio-drop")
    assert len(begun) <= 6


def test_an_error_of_the_source_comes_out():
    def work():
        yield 0, functools.partial(int, 1)
        raise LookupError("source")

    with pytest.raises(LookupError, match="source"):
        list(in_order(work(), threads=2, name="source"))
    assert all_ended("s3dlio-source")
