"""The hand-over to one thread: nothing lost, nothing unbounded, and an end in every case."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading

import pytest

from s3dlio.concurrency.drain import Drain

PATIENCE_S = 20


def nothing():
    pass


def test_every_item_once_and_in_order_of_each_thread():
    taken = []
    drain = Drain(taken.extend, nothing, capacity=64, gather_s=0.001, name="test")
    threads = [
        threading.Thread(target=lambda n=n: [drain.put((n, i)) for i in range(2000)], daemon=True) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    drain.close()
    assert sorted(taken) == [(n, i) for n in range(4) for i in range(2000)]
    for n in range(4):
        assert [i for m, i in taken if m == n] == list(range(2000))


def test_a_put_waits_for_room():
    entered, leave, put = threading.Event(), threading.Event(), threading.Event()
    batches = []

    def consume(batch):
        batches.append(batch)
        entered.set()
        assert leave.wait(PATIENCE_S)

    drain = Drain(consume, nothing, capacity=3, gather_s=0, name="test")
    drain.put(0)
    assert entered.wait(PATIENCE_S)
    assert all(drain.put(n) for n in (1, 2, 3))
    thread = threading.Thread(target=lambda: (drain.put(4), put.set()), daemon=True)
    thread.start()
    assert not put.wait(0.05)
    assert len(drain._waiting) == 3
    leave.set()
    assert put.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    drain.close()
    assert [item for batch in batches for item in batch] == [0, 1, 2, 3, 4]


def test_items_are_gathered_and_close_does_not_wait_for_more():
    batches = []
    drain = Drain(batches.append, nothing, capacity=1000, gather_s=1000, name="test")
    for n in range(10):
        drain.put(n)
    drain.close()
    assert [item for batch in batches for item in batch] == list(range(10))
    assert len(batches) <= 2


def test_a_full_batch_does_not_wait_for_more():
    consumed = threading.Event()
    drain = Drain(lambda _: consumed.set(), nothing, capacity=5, gather_s=1000, name="test")
    for n in range(5):
        drain.put(n)
    assert consumed.wait(PATIENCE_S)
    drain.close()


def test_an_error_ends_it():
    finished = []
    failed = threading.Event()

    def consume(batch):
        failed.set()
        raise OSError("disk full")

    drain = Drain(consume, lambda: finished.append(1), capacity=2, gather_s=0, name="test")
    assert drain.put(1)
    assert failed.wait(PATIENCE_S)
    while drain.put(2):  # ends: after the error is noted, and without waiting for room
        pass
    assert isinstance(drain.error, OSError)
    with pytest.raises(OSError, match="disk full"):
        drain.close()
    drain.close()
    assert finished == [1]
    assert not drain.put(3)


def test_close_from_many_threads():
    finished = []
    drain = Drain([].extend, lambda: finished.append(1), capacity=2, gather_s=0, name="test")
    threads = [threading.Thread(target=drain.close, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert finished == [1]
    assert not drain.put(1)


def test_the_thread_itself_may_put_when_there_is_no_room():
    """A garbage collection in ``consume`` runs finalizers, and these may put."""
    taken = []
    drain = None

    class Finalized:
        def __init__(self):
            self.cycle = self

        def __del__(self):
            for n in range(5):
                drain.put(n)

    def consume(batch):
        taken.extend(item for item in batch if isinstance(item, int))
        del batch
        gc.collect()

    drain = Drain(consume, nothing, capacity=1, gather_s=0, name="test")
    Finalized()
    drain.put("go")
    for n in range(100, 110):
        drain.put(n)
    drain.close()
    assert set(taken) >= {*range(100, 110)}
    gc.collect()


def test_in_a_forked_child_it_does_nothing():
    taken = []
    drain = Drain(taken.extend, nothing, capacity=4, gather_s=0.001, name="test")
    drain.put(1)
    pid = os.fork()
    if pid == 0:
        refused = not drain.put(2)
        drain.close()
        os._exit(0 if refused else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    drain.close()
    assert taken == [1]


END = """
import sys
from s3dlio.concurrency.drain import Drain
def consume(batch):
    print(*batch, sep="", end="", flush=True)
drain = Drain(consume, lambda: print("finished", flush=True), capacity=100, gather_s=1000, name="test")
drain.put("one ")
drain.put("two ")
"""


@pytest.mark.parametrize(("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1)])
def test_the_end_of_the_process_closes_it(end, code):
    done = subprocess.run([sys.executable, "-c", END + end], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("one two finished\n", code)


def work(path):
    """What a worker process does: it opens a drain and leaves it."""
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    drain = Drain(
        lambda batch: os.write(file, "".join(batch).encode()),
        lambda: os.write(file, b" finished"),
        capacity=100, gather_s=1000, name="test",
    )  # fmt: skip
    drain.put("worker")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_end_of_a_worker_closes_it(tmp_path, method):
    process = multiprocessing.get_context(method).Process(target=work, args=(str(tmp_path / "out"),))
    process.start()
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    assert (tmp_path / "out").read_text() == "worker finished"
