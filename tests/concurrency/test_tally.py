import threading

from s3dlio.concurrency import Tally


def test_no_count_is_lost():
    tally = Tally()

    def count():
        for _ in range(20_000):
            tally.add("a")
        tally.add("b")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (tally.total("a"), tally.total("b"), tally.total("c")) == (80_000, 4, 0)
