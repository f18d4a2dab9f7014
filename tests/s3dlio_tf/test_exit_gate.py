import gc
import threading
import weakref

import pytest

from s3dlio.errors import ClosedError
from s3dlio_tf.exit_gate import ExitGate


def test_a_shut_gate_wakes_those_inside_and_refuses_others():
    leave, inside, left = threading.Event(), threading.Event(), []

    def visit():
        with gate.entered():
            inside.set()
            assert leave.wait(10)
        left.append(True)

    gate = ExitGate(leave.set)
    visitor = threading.Thread(target=visit)
    visitor.start()
    assert inside.wait(10)
    gate.shut()
    assert left == [True] or not visitor.is_alive() or gate._inside == 0
    visitor.join(10)
    with pytest.raises(ClosedError, match="ending"), gate.entered():
        raise AssertionError


def test_a_gate_that_nobody_used_does_not_wait(monkeypatch):
    gate = ExitGate(lambda: None)
    monkeypatch.setattr(gate._changed, "wait", lambda timeout: pytest.fail(f"waited {timeout} s"))
    gate.shut()


def test_an_error_inside_counts_as_leaving():
    gate = ExitGate(lambda: None)
    with pytest.raises(KeyError), gate.entered():
        raise KeyError
    assert gate._inside == 0


def test_a_gate_lives_no_longer_than_its_owner():
    reference = weakref.ref(ExitGate(lambda: None))
    gc.collect()
    assert reference() is None
