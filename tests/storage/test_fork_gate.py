import contextvars
import subprocess
import sys
import threading

import pytest

from s3dlio.storage.requests import inheritance
from s3dlio.storage.requests.fork_gate import ForkGate


def test_a_fork_waits_for_requests_and_holds_off_new_ones():
    gate = ForkGate()
    inside, leave, closed, forked, entered = (threading.Event() for _ in range(5))

    def request():
        with gate.passing():
            inside.set()
            leave.wait(30)

    def fork():
        gate.close()
        closed.set()
        forked.wait(30)
        gate.open()

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
    forked.set()
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
        gate.open()

    forking = threading.Thread(target=fork)
    forking.start()
    assert not closed.wait(0.1), "the fork went ahead of a request whose caller had left"
    leave.set()
    assert closed.wait(30)
    thread.join(30)
    forking.join(30)


def test_a_child_forked_inside_leaves_cleanly():
    gate = ForkGate()
    with gate.passing():
        gate.close()
        gate.reset()
        gate._inside.clear()
    assert gate._inside == {}


FORKED_BY_A_HANDLER = """
import os, signal
from s3dlio.storage.requests import fork_gate, inheritance

class Interrupting(dict):
    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        if signal.getsignal(signal.SIGUSR1) is handler:  # the first time
            signal.raise_signal(signal.SIGUSR1)

def handler(*_):
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    request()
    global child
    child = os.fork()

def request():
    with fork_gate.passing():
        pass

signal.signal(signal.SIGUSR1, handler)
gate = fork_gate._GATE
gate._inside = Interrupting()
request()
if child == 0:
    request()
    os._exit(0 if not inheritance.lost("s3") and not gate._inside else 1)
status = os.waitpid(child, 0)[1]
request()
child = os.fork()
if child == 0:
    os._exit(0)
print(status, os.waitpid(child, 0)[1], gate._inside)
"""


def test_a_signal_handler_forks_while_its_thread_is_at_the_gate():
    """And makes a request. Neither waits for the thread that it has interrupted, which goes on in both processes."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED_BY_A_HANDLER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("0 0 {}\n", "")


class Interrupted(dict):
    """Where Ctrl-C arrives when a request is noted or taken off."""

    def __init__(self, verb):
        super().__init__()
        self.verb = verb

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        if self.verb == "set":
            raise KeyboardInterrupt

    def pop(self, *arguments):
        verb, self.verb = self.verb, None
        if verb == "pop":
            raise KeyboardInterrupt
        return super().pop(*arguments)


@pytest.mark.parametrize("verb", ["set", "pop"])
def test_an_interrupted_request_holds_up_no_fork(verb):
    gate = ForkGate(patience_s=0.0)
    gate._inside = Interrupted(verb)
    with pytest.raises(KeyboardInterrupt), gate.passing():
        pass
    forking = threading.Thread(target=gate.close, daemon=True)
    forking.start()
    forking.join(10)
    assert not forking.is_alive()
    assert not gate._stuck
    assert gate._inside == {}


def test_an_interrupted_wait_for_requests_leaves_a_usable_child(monkeypatch):
    """The fork goes on, as Python has it; what was waited for may be broken there."""
    monkeypatch.setattr(inheritance, "_first_user", {})
    gate = ForkGate()
    monkeypatch.setattr(gate, "_emptied", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        gate.close()
    gate.reset()
    assert inheritance.lost("s3")
    with gate.passing():
        assert len(gate._inside) == 1


def test_a_child_of_an_interrupted_fork_does_not_wait_for_a_thread_of_its_parent():
    gate = ForkGate()
    taken, leave = threading.Event(), threading.Event()

    def other():
        with gate._entry:
            taken.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert taken.wait(30)
    gate.reset()  # as in a child whose parent got Ctrl-C in close()
    with gate.passing():
        assert len(gate._inside) == 1
    leave.set()
    thread.join(30)


def test_a_child_of_a_fork_that_could_not_wait_does_without_what_may_be_locked(monkeypatch):
    """Ctrl-C came while another thread forked: this one has waited for nobody, and neither process complains."""
    monkeypatch.setattr(inheritance, "_first_user", {})
    gate = ForkGate()
    inside, leave = threading.Event(), threading.Event()

    def request():
        with gate.passing():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=request)
    thread.start()
    assert inside.wait(30)
    gate.open()
    gate.reset()
    leave.set()
    thread.join(30)
    assert inheritance.lost("s3")
