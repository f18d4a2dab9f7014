import contextvars
import threading

import pytest

from s3dlio.storage.requests import inheritance
from s3dlio.storage.requests.fork_gate import ForkGate


def test_a_fork_waits_for_requests_and_holds_off_new_ones():
    gate = ForkGate()
    inside, leave, closed, entered = (threading.Event() for _ in range(4))

    def request():
        with gate.passing():
            inside.set()
            leave.wait(30)

    def fork():
        gate.close()
        closed.set()

    def late():
        with gate.passing():
            entered.set()

    threads = [threading.Thread(target=target) for target in (request, fork, late)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    assert not closed.wait(0.1), "the fork went ahead of a request"
    leave.set()
    assert closed.wait(30)
    threads[2].start()
    assert not entered.wait(0.1), "a request went ahead during the fork"
    gate.open()
    assert entered.wait(30)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_many_requests_at_a_time():
    gate = ForkGate()
    barrier = threading.Barrier(4, timeout=30)

    def request():
        with gate.passing():
            barrier.wait()

    threads = [threading.Thread(target=request) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not barrier.broken
    assert gate._inside == {}


def test_a_request_inside_a_request():
    gate = ForkGate()
    with gate.passing(), gate.passing():
        assert len(gate._inside) == 1
    assert gate._inside == {}


def test_a_fork_inside_the_own_request_does_not_wait_for_it():
    gate = ForkGate()
    with gate.passing():
        gate.close()
        gate.open()
        gate.close()
        gate.reset()  # as in the child
    assert gate._inside == {}
    with gate.passing():
        pass


def test_an_error_leaves_the_gate():
    gate = ForkGate()
    with pytest.raises(KeyError), gate.passing():
        raise KeyError
    gate.close()
    gate.open()


def test_a_request_that_hangs_holds_up_no_fork_for_ever(monkeypatch):
    """The child does without that engine, the parent goes on with it."""
    monkeypatch.setattr(inheritance, "_first_user", {})
    gate = ForkGate(patience_s=0.01)
    inside, leave = threading.Event(), threading.Event()

    def request():
        with gate.passing():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=request)
    thread.start()
    assert inside.wait(30)
    gate.close()
    gate.open()
    assert not inheritance.lost("s3"), "parent"
    gate.close()
    gate.reset()
    assert inheritance.lost("s3"), "child"
    leave.set()
    thread.join(30)


def test_a_request_on_another_thread_of_who_is_inside():
    """It must not wait for a fork that waits for who waits for it; and the fork waits for it, too."""
    gate = ForkGate()
    inside, leave, closed = (threading.Event() for _ in range(3))

    def nested():
        with gate.passing():
            inside.set()
            leave.wait(30)

    with gate.passing():
        gate._entry.acquire()  # as a fork that has begun
        thread = threading.Thread(target=contextvars.copy_context().run, args=(nested,))
        thread.start()
        assert inside.wait(30), "it waited for the fork"
        gate._entry.release()

    def fork():
        gate.close()
        closed.set()

    forking = threading.Thread(target=fork)
    forking.start()
    assert not closed.wait(0.1), "the fork went ahead of a request whose caller had left"
    leave.set()
    assert closed.wait(30)
    thread.join(30)
    forking.join(30)
    gate.open()


def test_a_child_forked_inside_leaves_cleanly():
    gate = ForkGate()
    with gate.passing():
        gate.close()
        gate.reset()
        gate._inside.clear()
    assert gate._inside == {}
