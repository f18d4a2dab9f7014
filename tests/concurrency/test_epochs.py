import copy
import os
import pickle
import subprocess
import sys

from s3dlio.concurrency import EpochTickets


def epochs(tickets, tokens, *, holder=0, first=0):
    return [tickets.claim(token, holder, first=(first, 0))[0] for token in tokens]


def test_a_token_has_one_epoch_for_all_its_holders_and_a_new_one_the_next():
    tickets = EpochTickets()
    assert tickets.newest is None
    assert epochs(tickets, (11, -3, 2**62), first=5) == [5, 6, 7]
    assert epochs(tickets, (11, -3, 2**62), first=5, holder=1) == [5, 6, 7]
    assert tickets.newest == 7


def test_a_holder_that_comes_again_with_its_token_begins_an_epoch():
    """torch.manual_seed() before every epoch makes all tokens alike."""
    tickets = EpochTickets()
    found = [epochs(tickets, (7,), holder=holder) for _ in range(3) for holder in (0, 1, 2)]
    assert found == [[0]] * 3 + [[1]] * 3 + [[2]] * 3


def test_the_first_position_is_that_of_the_first_epoch_only():
    tickets = EpochTickets()
    assert tickets.claim(1, 0, first=(4, 320)) == (4, 320)
    assert tickets.claim(1, 1, first=(4, 320)) == (4, 320)
    assert tickets.claim(2, 0, first=(4, 320)) == (5, 0)


def test_an_announcement_sets_where_the_next_new_token_begins():
    tickets = EpochTickets()
    assert epochs(tickets, (1, 2)) == [0, 1]
    tickets.announce(9, 60)
    assert tickets.newest is None
    assert [tickets.claim(3, holder, first=(0, 0)) for holder in (0, 1)] == [(9, 60)] * 2
    assert tickets.newest == 9
    assert tickets.claim(4, 0, first=(0, 0)) == (10, 0)
    tickets.announce(2, 0)
    assert tickets.claim(4, 1, first=(0, 0)) == (2, 0), "a token from before the announcement is a new one"


def test_a_resumed_token_gets_the_loaded_epoch():
    tickets = EpochTickets()
    assert epochs(tickets, (1,)) == [0]
    assert [tickets.claim(2, holder, first=(40, 6), resumed=True) for holder in (0, 1)] == [(40, 6)] * 2
    assert epochs(tickets, (3,)) == [41]
    assert tickets.newest == 41


def test_many_epochs_stay_quick_and_right():
    tickets = EpochTickets()
    assert epochs(tickets, range(5000)) == list(range(5000))


def test_it_leaves_no_file_and_no_descriptor(tmp_path, monkeypatch, open_files):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = open_files()
    tickets = EpochTickets()
    tickets.claim(1, 0, first=(0, 0))
    assert list(tmp_path.iterdir()) == []
    assert len(open_files()) == len(before) + 1
    del tickets
    assert open_files() == before


def test_a_copy_outside_of_a_spawn_counts_for_itself():
    tickets = EpochTickets()
    tickets.claim(1, 0, first=(3, 0))
    for twin in (pickle.loads(pickle.dumps(tickets)), copy.deepcopy(tickets)):
        assert twin.newest is None
        assert twin.claim(2, 0, first=(0, 0)) == (0, 0)
    assert tickets.newest == 3


def test_ranks_that_inherit_one_count_for_themselves():
    """Two training processes forked from one that has made the dataset: each has epochs of its own."""
    tickets = EpochTickets()
    tickets.announce(5, 0)
    receiving, sending = os.pipe()
    if os.fork() == 0:  # a rank: its claims are its own
        os.write(sending, bytes(epochs(tickets, (1, 2))))
        os._exit(0)
    os.close(sending)
    assert list(os.read(receiving, 10)) == [0, 1]
    os.close(receiving)
    assert os.wait()[1] == 0
    assert tickets.newest is None
    assert epochs(tickets, (1, 2)) == [5, 6]


SPAWNED = """
import multiprocessing, sys
from s3dlio.concurrency import EpochTickets

def work(tickets, holder, queue):
    queue.put([tickets.claim(token, holder, first=(7, 0))[0] for token in (1, 2)])

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    tickets, queue = EpochTickets(), context.SimpleQueue()
    children = [context.Process(target=work, args=(tickets, holder, queue)) for holder in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    print([queue.get() for _ in children], [child.exitcode for child in children], tickets.newest)
"""


def test_spawned_children_share_the_count(tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED)
    for method in ("fork", "spawn", "forkserver"):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script), method],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stderr == ""
        assert done.stdout == "[[7, 8], [7, 8], [7, 8]] [0, 0, 0] 8\n"
