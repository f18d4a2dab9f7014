"""Pieces on threads: counts, the first error, the end."""

import threading

import pytest

from s3dlio.errors import OptionError
from s3dlio.transfer.conveyor import Conveyor, Piece, Stopped, check_in_flight


def test_counts(request):
    news = []
    conveyor = Conveyor(news.append, objects=3, size=30)

    def move(number):
        conveyor.moved(f"m://{number}", 10, whole=True, began=1.0)

    conveyor.run((Piece(10, lambda n=n: move(n)) for n in range(3)), max_in_flight=2, tasks=3)
    assert conveyor.done == (3, 30)
    assert [(one.objects_done, one.bytes_done) for one in news] == [(0, 0), (1, 10), (2, 20), (3, 30)]
    assert {(one.objects_total, one.bytes_total) for one in news} == {(3, 30)}
    assert news[0].current == ""
    assert sorted(one.current for one in news[1:]) == ["m://0", "m://1", "m://2"]
    assert all(one.current_whole and one.current_s > 0 for one in news[1:])


def test_the_callback_is_called_by_one_thread_at_a_time():
    inside = threading.Lock()

    def callback(_news):
        assert inside.acquire(blocking=False)
        inside.release()

    conveyor = Conveyor(callback, objects=500, size=0)
    conveyor.run(
        (Piece(1, lambda: conveyor.moved("x", 0, whole=True, began=0.0)) for _ in range(500)),
        max_in_flight=16,
        tasks=500,
    )
    assert conveyor.done == (500, 0)


def test_the_first_error_ends_it_and_wakes_the_long_pieces():
    conveyor = Conveyor(None, objects=2, size=0)
    failed = threading.Event()
    seen, begun = [], []

    def long():
        assert failed.wait(30)
        while not conveyor._stopped:
            pass
        try:
            conveyor.check()
        except Stopped:
            seen.append("stopped")
            raise

    def bad():
        failed.set()
        raise ValueError("first")

    def pieces():
        yield Piece(1, long)
        yield Piece(1, bad)
        assert failed.wait(30)
        for number in range(1000):
            yield Piece(1, lambda n=number: begun.append(n))

    with pytest.raises(ValueError, match="first"):
        conveyor.run(pieces(), max_in_flight=2, tasks=2)
    assert seen == ["stopped"]
    assert begun == []


def test_an_error_of_the_callback_ends_it():
    def callback(news):
        if news.objects_done:
            raise RuntimeError("from the callback")

    conveyor = Conveyor(callback, objects=2, size=0)
    pieces = (Piece(1, lambda: conveyor.moved("x", 0, whole=True, began=0.0)) for _ in range(2))
    with pytest.raises(RuntimeError, match="from the callback"):
        conveyor.run(pieces, max_in_flight=1, tasks=2)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "8", None])
def test_in_flight(number):
    with pytest.raises(OptionError) as caught:
        check_in_flight("copy", number)
    assert caught.value.field == "max_in_flight"


def test_in_flight_is_a_limit():
    lock, running, most = threading.Lock(), [0], [0]
    both = threading.Barrier(3, timeout=30)

    def work():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        both.wait()
        with lock:
            running[0] -= 1
        both.wait()

    Conveyor(None, objects=9, size=0).run((Piece(1, work) for _ in range(9)), max_in_flight=3, tasks=9)
    assert most[0] == 3


def test_few_pieces_start_few_threads():
    seen = set()
    pieces = (Piece(1, lambda: seen.update(threading.enumerate())) for _ in range(2))
    Conveyor(None, objects=2, size=0).run(pieces, max_in_flight=64, tasks=2)
    assert 1 <= sum(thread.name.startswith("s3dlio-transfer-") for thread in seen) <= 2
