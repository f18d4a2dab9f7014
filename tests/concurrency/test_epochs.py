import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

from s3dlio.concurrency import EpochTickets


def test_a_token_keeps_its_epoch_and_a_new_one_gets_the_next():
    tickets = EpochTickets()
    assert tickets.newest is None
    assert [tickets.claim(token, first=5) for token in (11, 11, -3, 11, 2**62, -3)] == [5, 5, 6, 5, 7, 6]
    assert tickets.newest == 7


def test_a_resumed_token_gets_the_loaded_epoch():
    tickets = EpochTickets()
    assert tickets.claim(1, first=0) == 0
    assert tickets.claim(2, first=40, resumed=True) == 40
    assert tickets.claim(2, first=40, resumed=True) == 40
    assert tickets.claim(3, first=0) == 41
    assert tickets.newest == 41


def descriptors():
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_it_leaves_no_file_and_no_descriptor(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = descriptors()
    tickets = EpochTickets()
    tickets.claim(1, first=0)
    assert list(tmp_path.iterdir()) == []
    assert len(descriptors() - before) == 1
    del tickets
    assert descriptors() == before


def test_a_copy_outside_of_a_spawn_counts_for_itself():
    tickets = EpochTickets()
    tickets.claim(1, first=3)
    for twin in (pickle.loads(pickle.dumps(tickets)), copy.deepcopy(tickets)):
        assert twin.newest is None
        assert twin.claim(2, first=0) == 0
    assert tickets.newest == 3


def test_forked_children_share_the_count():
    tickets = EpochTickets()
    pipes = []
    for worker in range(6):
        receiving, sending = os.pipe()
        if os.fork() == 0:
            claimed = {(worker + n) % 3: tickets.claim((worker + n) % 3, first=5) for n in range(3)}
            os.write(sending, bytes(claimed[token] for token in range(3)))
            os._exit(0)
        os.close(sending)
        pipes.append(receiving)
    answers = [os.read(receiving, 10) for receiving in pipes]
    for receiving in pipes:
        os.close(receiving)
        assert os.wait()[1] == 0
    assert len(set(answers)) == 1, "a token has one epoch, whoever asks"
    assert sorted(answers[0]) == [5, 6, 7]
    assert tickets.newest == 7
    assert tickets.claim(1, first=0) == answers[0][1]


SPAWNED = """
import multiprocessing, sys
from s3dlio.concurrency import EpochTickets

def work(tickets, queue):
    queue.put([tickets.claim(token, first=7) for token in (1, 2, 1)])

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    tickets, queue = EpochTickets(), context.SimpleQueue()
    children = [context.Process(target=work, args=(tickets, queue)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    print([queue.get() for _ in children], [child.exitcode for child in children], tickets.newest)
"""


def test_spawned_children_share_the_count(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    for method in ("spawn", "forkserver"):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script), method],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout == "[[7, 8, 7], [7, 8, 7], [7, 8, 7]] [0, 0, 0] 8\n"
