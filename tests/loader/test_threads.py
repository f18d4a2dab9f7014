"""Closing, dropping, forking and interrupting a loader that reads."""

import gc
import json
import signal
import subprocess
import sys
import threading

import pytest

from s3dlio import DataLoader
from s3dlio.errors import ClosedError
from s3dlio.testing.faults import FaultyStore

from ..threads import all_ended, threads_begun

WAIT_S = 20


def test_no_thread_before_the_first_iteration(labelled):
    loader = DataLoader(labelled(4).dataset(), batch_size=2)
    assert len(loader) == 2
    loader.state_dict()
    assert not threads_begun()
    loader.close()


def test_close_from_another_thread_wakes_the_consumer(labelled):
    inside, never = threading.Event(), threading.Event()

    def hold(call):
        inside.set()
        never.wait(WAIT_S)

    place = labelled(4)
    loader = DataLoader(place.dataset(FaultyStore(place.store, before=hold)), batch_size=2)
    outcome = []

    def consume():
        with pytest.raises(ClosedError) as caught:
            next(iter(loader))
        outcome.append(caught.value)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert inside.wait(WAIT_S)
    loader.close()
    consumer.join(WAIT_S)
    assert not consumer.is_alive()
    assert len(outcome) == 1
    never.set()
    assert all_ended()


def test_a_closed_loader_raises_and_close_is_idempotent(labelled):
    loader = DataLoader(labelled(4).dataset(), batch_size=2)
    iteration = iter(loader)
    loader.close()
    loader.close()
    assert all_ended()
    with pytest.raises(ClosedError, match="closed, expected open"):
        iter(loader)
    with pytest.raises(ClosedError):
        next(iteration)


def test_a_with_block_ends_the_threads_also_by_an_error(labelled):
    with pytest.raises(RuntimeError, match="training"), DataLoader(labelled(40).dataset(), batch_size=2) as loader:
        for _ in loader:
            raise RuntimeError("training")
    assert all_ended()


def test_dropping_the_iterator_ends_the_threads(labelled):
    loader = DataLoader(labelled(400).dataset(), batch_size=2, prefetch_bytes=1000)
    for _ in loader:
        break
    gc.collect()
    assert all_ended()
    iteration = iter(loader)
    next(iteration)
    assert threads_begun()
    del iteration
    assert all_ended()


def test_dropping_the_loader_ends_the_threads_once_the_iterator_goes(labelled, labels):
    place = labelled(6)
    assert [labels(batch) for batch in DataLoader(place.dataset(), batch_size=3)] == [[0, 1, 2], [3, 4, 5]]
    iteration = iter(DataLoader(place.dataset(), batch_size=3))
    gc.collect()
    assert labels(next(iteration)) == [0, 1, 2]
    assert labels(next(iteration)) == [3, 4, 5]
    assert next(iteration, None) is None
    assert all_ended()


def test_the_end_of_an_epoch_ends_the_threads(labelled):
    with DataLoader(labelled(40).dataset(), batch_size=2) as loader:
        iteration = iter(loader)
        for _ in iteration:
            pass
        assert all_ended()


def test_a_cycle_with_the_iterator_is_collected_by_whatever_thread(labelled):
    """__del__ then runs in a thread that may hold the lock of another, or the same, iteration."""
    place = labelled(60)
    gc.disable()
    try:
        for _ in range(30):
            cycle = [iter(DataLoader(place.dataset(), batch_size=1, max_in_flight=3, prefetch_bytes=2000))]
            cycle.append(cycle)
            next(cycle[0])
        del cycle
        gc.set_threshold(1, 1, 1)  # every allocation of every thread collects
        gc.enable()
        with DataLoader(place.dataset(), batch_size=1, max_in_flight=3) as loader:
            assert len(list(loader)) == 60
    finally:
        gc.set_threshold(700, 10, 10)
        gc.enable()
    gc.collect()
    assert all_ended()


SCRIPT = """
import io, itertools, os, signal, sys, threading, time
import numpy as np
import s3dlio
from s3dlio.errors import ClosedError
from s3dlio.storage import MemoryStore
from s3dlio.testing.faults import FaultyStore

store = MemoryStore("script")
for n in range(200):
    file = io.BytesIO()
    np.save(file, np.full(100, n))
    store.put(f"d/{n:03d}.npy", file.getvalue())
data = s3dlio.dataset("memory://script/d")
def loader(before=lambda call: None, **options):
    faulty = s3dlio.Dataset(store=FaultyStore(store, before=before), manifest=data.manifest, format=data.format)
    return s3dlio.DataLoader(faulty, batch_size=2, **options)
"""


def script(rest):
    command = [sys.executable, "-W", "error", "-W", "ignore:.*fork.*:DeprecationWarning", "-c", SCRIPT + rest]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(rest):
    with script(rest) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize("waiting", [True, False])
def test_ctrl_c_ends_the_process_soon(waiting):
    """While the consumer waits for a request that never returns, and while it trains."""
    hold = "threading.Event().wait()" if waiting else "None"
    with script(f"""
asked = threading.Event()
def before(call):
    asked.set()
    {hold}
batches = iter(loader(before))
if not {waiting}:
    next(batches)
asked.wait()
try:
    print("ready", flush=True)
    while True:
        next(batches) if {waiting} else time.sleep(0.001)
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
    raise
""") as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert out.strip(), err
        assert "KeyboardInterrupt" in err
        assert "Exception ignored" not in err
        assert process.returncode == -signal.SIGINT


def test_a_signal_handler_may_close_the_loader():
    """At whatever point of the hand-over the signal comes."""
    code, out, err = finished("""
closed = 0
for _ in range(40):
    running = loader()
    signal.signal(signal.SIGALRM, lambda *_: running.close())
    signal.setitimer(signal.ITIMER_REAL, 0.004)
    try:
        while True:
            for batch in running:
                pass
    except ClosedError:
        closed += 1
print(closed, len(threading.enumerate()))
""")
    assert (code, out, err) == (0, "40 1\n", "")


def test_a_process_that_just_ends():
    """In the middle of an epoch, with the iterator alive, with reads under way."""
    code, out, err = finished("""
batches = iter(loader(lambda call: threading.Event().wait() if call.number > 50 else None))
next(batches)
print("end")
""")
    assert (code, out, err) == (0, "end\n", "")


def test_a_forked_child_iterates_anew():
    code, out, err = finished("""
running = loader(shuffle=True)
batches = iter(running)
first = next(batches)
receive, send = os.pipe()
if os.fork() == 0:
    try:
        next(batches)
    except ClosedError:
        with s3dlio.DataLoader(running.dataset, batch_size=2, shuffle=True) as own:
            count = sum(1 for _ in own)
        more = sum(1 for _ in running)  # the inherited loader, its next epoch
        os.write(send, b"%d %d" % (count, more))
    os._exit(0)
os.close(send)
print(os.read(receive, 100).decode(), os.wait()[1], 1 + sum(1 for _ in batches))
""")
    assert (code, out, err) == (0, "100 100 0 100\n", "")


def test_the_state_is_the_same_from_a_signal_handler():
    code, out, err = finished("""
import json
states = []
running = loader()
signal.signal(signal.SIGALRM, lambda *_: states.append((taken, running.state_dict()["position"])))
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
taken = 0
for batch in running:
    taken += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps(states))
""")
    assert (code, err) == (0, "")
    for taken, position in json.loads(out):
        assert position in {2 * taken, 2 * taken + 2, 0}
