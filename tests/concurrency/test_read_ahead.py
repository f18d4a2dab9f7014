import contextlib
import gc
import itertools
import subprocess
import sys
import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio.concurrency import ReadAhead
from s3dlio.errors import ClosedError, OptionError

from ..threads import all_ended, threads_begun

WAIT_S = 20
"""Longer than any wait that succeeds; a test that reaches it has failed."""


class Tasks:
    """A group whose tasks the test holds, fails and counts."""

    def __init__(self, number, tasks=1, cost=1, run=lambda group, task: None):
        self.number = number
        self.cost = cost
        self.tasks = tasks
        self.ended = []
        self._run = run

    def __len__(self):
        return self.tasks

    def run(self, task):
        self._run(self, task)
        self.ended.append(task)


class Gauge:
    """What groups hold from their first task's start until the consumer asks for them, seen from outside."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked_for = -1
        self.open = {}
        self.highest_cost = 0
        self.most_groups = 0
        self.running = 0
        self.most_running = 0

    def run(self, group, task):
        with self.lock:
            self.open[group.number] = group.cost
            held = [cost for number, cost in self.open.items() if number > self.asked_for]
            self.highest_cost = max(self.highest_cost, sum(held))
            self.most_groups = max(self.most_groups, len(held))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        with self.lock:
            self.running -= 1


def ahead(groups, *, threads=4, budget=10**9, max_groups=8):
    return ReadAhead(iter(groups), threads=threads, budget=budget, max_groups=max_groups, name="test")


def ours():
    return set(threads_begun("s3dlio-test-"))


@pytest.fixture(autouse=True)
def no_thread_is_left(threads_of_this_test):
    yield
    assert all_ended("s3dlio-test-")


def test_groups_come_in_order_when_the_last_ends_first():
    ended = [threading.Event() for _ in range(6)]

    def run(group, task):
        assert group.number == 5 or ended[group.number + 1].wait(WAIT_S)
        ended[group.number].set()

    groups = [Tasks(n, run=run) for n in range(6)]
    with ahead(groups, threads=6) as reading:
        assert list(reading) == groups


def test_a_group_comes_after_all_of_its_tasks():
    together = threading.Barrier(4)
    groups = [Tasks(n, tasks=4, run=lambda group, task: together.wait(WAIT_S)) for n in range(5)]
    with ahead(groups) as reading:
        for group in reading:
            assert sorted(group.ended) == [0, 1, 2, 3]


def test_tasks_start_in_order():
    started = []
    groups = [Tasks(n, tasks=3, run=lambda group, task: started.append((group.number, task))) for n in range(50)]
    with ahead(groups, threads=1) as reading:
        assert list(reading) == groups
    assert started == [(n, task) for n in range(50) for task in range(3)]


def test_groups_of_no_tasks():
    groups = [Tasks(n, tasks=0 if n % 3 else 2) for n in range(30)]
    with ahead(groups) as reading:
        assert list(reading) == groups
    empty = [Tasks(n, tasks=0) for n in range(30)]
    with ahead(empty, max_groups=2) as reading:
        assert list(reading) == empty


def test_no_groups():
    with ahead([]) as reading:
        assert list(reading) == []
        assert list(reading) == []


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=40),
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(1, 6),
)
def test_limits_hold(shapes, budget, threads, max_groups):
    gauge = Gauge()
    groups = [Tasks(n, tasks=tasks, cost=cost, run=gauge.run) for n, (cost, tasks) in enumerate(shapes)]
    with ahead(groups, threads=threads, budget=budget, max_groups=max_groups) as reading:
        for number, group in enumerate(groups):
            gauge.asked_for = number
            assert next(reading) is group
            assert sorted(group.ended) == list(range(group.tasks))
        assert list(reading) == []
    assert gauge.highest_cost <= max([budget, *(group.cost for group in groups)])
    assert gauge.most_groups <= max_groups
    assert gauge.most_running <= threads


@pytest.mark.parametrize("budget", [9, 10])
def test_a_group_waits_for_room_and_an_oversized_one_runs_alone(budget):
    """Costs 4, 4, 100, 4: the two small ones fit, the large one starts when both are gone, the last one after it."""
    gauge = Gauge()
    small_ones = threading.Barrier(2)

    def run(group, task):
        if group.number < 2:
            small_ones.wait(WAIT_S)  # both are under way together
        gauge.run(group, task)

    groups = [Tasks(n, cost=cost, run=run) for n, cost in enumerate([4, 4, 100, 4])]
    with ahead(groups, budget=budget) as reading:
        for number in range(4):
            gauge.asked_for = number
            next(reading)
    assert gauge.highest_cost <= 100


def test_thousands_of_groups():
    count = itertools.count()
    groups = [Tasks(n, tasks=n % 5, cost=n % 7, run=lambda group, task: next(count)) for n in range(5000)]
    with ahead(groups, threads=16, budget=20, max_groups=10) as reading:
        assert list(reading) == groups
    assert next(count) == sum(n % 5 for n in range(5000))


class BrokenTaskError(Exception):
    pass


def test_an_error_comes_at_its_place_with_its_traceback_and_nothing_after_it():
    def run(group, task):
        if group.number == 3:
            raise BrokenTaskError(group.number)

    groups = [Tasks(n, run=run) for n in range(10)]
    reading = ahead(groups)
    assert [next(reading) for _ in range(3)] == groups[:3]
    with pytest.raises(BrokenTaskError, match="3") as caught:
        next(reading)
    assert "run" in [entry.name for entry in caught.traceback]
    assert all_ended("s3dlio-test-")
    with pytest.raises(ClosedError):
        next(reading)


def test_of_several_errors_the_lowest_tasks_comes_out():
    failed = {task: threading.Event() for task in range(4)}
    begun = threading.Barrier(4)

    def run(group, task):
        begun.wait(WAIT_S)
        if task < 3:
            assert failed[task + 1].wait(WAIT_S)  # the highest task fails first
        failed[task].set()
        if task:
            raise BrokenTaskError(task)

    with ahead([Tasks(0, tasks=4, run=run)]) as reading, pytest.raises(BrokenTaskError, match="1"):
        next(reading)


def test_tasks_after_an_error_do_not_start():
    def run(group, task):
        if task == 2:
            raise BrokenTaskError

    group = Tasks(0, tasks=100, run=run)
    with ahead([group, Tasks(1)], threads=1) as reading, pytest.raises(BrokenTaskError):
        next(reading)
    assert group.ended == [0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_no_kind_of_error_is_lost(error):
    def run(group, task):
        raise error("from the task")

    with ahead([Tasks(0, run=run)]) as reading, pytest.raises(error, match="from the task"):
        next(reading)


def test_a_tasks_stop_iteration_is_no_end_of_the_groups():
    def run(group, task):
        if group.number == 1:
            next(iter([]))

    with ahead([Tasks(n, run=run) for n in range(3)]) as reading:
        next(reading)
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            next(reading)
        assert isinstance(caught.value.__cause__, StopIteration)


def test_an_error_of_the_source_comes_after_its_groups():
    groups = [Tasks(n) for n in range(3)]

    def source():
        yield from groups
        raise BrokenTaskError("the source")

    with ahead(source()) as reading:
        assert [next(reading) for _ in range(3)] == groups
        with pytest.raises(BrokenTaskError, match="the source"):
            next(reading)
        assert list(reading) == []


def test_the_error_is_freed_with_its_frames():
    """Without the garbage collector: the frames of a failed task may hold a batch of memory."""

    class Held:
        pass

    held = []

    def run(group, task):
        memory = Held()
        held.append(weakref.ref(memory))
        raise BrokenTaskError

    reading = ahead([Tasks(0, run=run)])
    gc.disable()
    try:
        with contextlib.suppress(BrokenTaskError):
            next(reading)
        assert all_ended("s3dlio-test-")
        assert held[0]() is None
    finally:
        gc.enable()


def test_close_from_another_thread_wakes_the_consumer():
    never = threading.Event()
    inside = threading.Event()
    outcome = []

    def run(group, task):
        inside.set()
        never.wait(WAIT_S)

    reading = ahead([Tasks(0, run=run)])

    def consume():
        try:
            next(reading)
        except ClosedError as error:
            outcome.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert inside.wait(WAIT_S)
    reading.close()  # returns though the task is still inside its request
    consumer.join(WAIT_S)
    assert not consumer.is_alive()
    assert len(outcome) == 1
    assert ours(), "the task was not waited for"
    never.set()


def test_close_is_idempotent_and_ends_waiting_threads():
    reading = ahead((Tasks(n) for n in itertools.count()), max_groups=2)
    next(reading)
    reading.close()
    assert all_ended("s3dlio-test-")
    reading.close()
    with pytest.raises(ClosedError, match="closed"):
        next(reading)


def test_close_by_many_threads_at_once():
    reading = ahead((Tasks(n) for n in itertools.count()), max_groups=2)
    closers = [threading.Thread(target=reading.close) for _ in range(8)]
    for closer in closers:
        closer.start()
    for closer in closers:
        closer.join(WAIT_S)
    assert not any(closer.is_alive() for closer in closers)
    assert all_ended("s3dlio-test-")


def test_close_by_a_thread_that_is_taking_a_group():
    """As a garbage collection does that drops the consumer's iterator just then."""
    closed = threading.Event()

    def source():
        yield Tasks(0)
        reading.close()
        closed.set()
        yield Tasks(1)

    started = threading.Event()

    def late_source():
        assert started.wait(WAIT_S)  # ``reading`` is bound
        yield from source()

    reading = ahead(late_source(), threads=2)
    started.set()
    assert closed.wait(WAIT_S)
    assert all_ended("s3dlio-test-")


def test_threads_end_with_the_last_group_without_close():
    groups = [Tasks(n) for n in range(3)]
    reading = ahead(groups)
    assert list(reading) == groups
    assert all_ended("s3dlio-test-")
    reading.close()


def test_threads_that_cannot_be_started_leave_none_behind(monkeypatch):
    real = threading.Thread.start
    allowed = iter([True, True, False])

    def start(thread):
        if not next(allowed):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        ahead(Tasks(n) for n in itertools.count())
    assert all_ended("s3dlio-test-")


def test_the_consumers_waiting_is_counted():
    go = threading.Event()
    with ahead([Tasks(0, run=lambda group, task: go.wait(WAIT_S))]) as reading:
        assert reading.wait_s == 0
        setter = threading.Timer(0.05, go.set)
        setter.start()
        next(reading)
        setter.join()
        assert 0.02 < reading.wait_s < WAIT_S


@pytest.mark.parametrize("option", ["threads", "budget", "max_groups"])
def test_options_are_checked(option):
    with pytest.raises(OptionError, match=f"{option}=0"):
        ahead([], **{option: 0})


SCRIPT = """
import itertools, os, sys, threading
from s3dlio.concurrency import ReadAhead
from s3dlio.errors import ClosedError

class Group:
    cost = 1
    def __len__(self): return 1
    def run(self, task): pass

reading = ReadAhead((Group() for _ in itertools.count()), threads=4, budget=100, max_groups=3, name="test")
next(reading)
"""


def run_script(rest):
    command = [sys.executable, "-W", "error", "-W", "ignore:.*fork.*:DeprecationWarning", "-c", SCRIPT + rest]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_in_a_forked_child_it_raises_and_closes():
    done = run_script("""
for _ in range(20):  # a lock held by a thread at the moment of a fork must not matter
    child = os.fork()
    if child == 0:
        try:
            next(reading)
        except ClosedError as error:
            reading.close()
            os._exit(0 if "forked" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    next(reading)
reading.close()
print(len(threading.enumerate()))
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_a_process_ends_with_threads_inside_requests():
    """Neither close nor a with: the interpreter waits for no request, and does not crash."""
    done = run_script("""
class Hanging(Group):
    def run(self, task):
        inside.set()
        threading.Event().wait()
inside = threading.Event()
stuck = ReadAhead(iter([Hanging()]), threads=2, budget=1, max_groups=1, name="stuck")
inside.wait()
print("end")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
