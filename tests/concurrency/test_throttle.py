import threading

import pytest

from s3dlio.concurrency import Throttle


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def throttle(clock):
    return Throttle(interval_s=1.0, clock=clock)


def enter(throttle, times):
    for _ in range(times):
        throttle.enter(0)


def test_no_limit_before_the_first_refusal(throttle):
    enter(throttle, 1000)
    assert (throttle.inside, throttle.limit) == (1000, None)
    for _ in range(1000):
        throttle.succeeded()
        throttle.leave()
    assert (throttle.inside, throttle.limit) == (0, None)


def test_refusals_halve_once_an_interval(throttle, clock):
    enter(throttle, 64)
    for _ in range(64):
        throttle.refused()
    assert throttle.limit == 32
    clock.now = 0.9
    throttle.refused()
    assert throttle.limit == 32
    for expected in (16, 8, 4, 2, 1, 1):
        clock.now += 1
        throttle.refused()
        assert throttle.limit == expected


def test_successes_grow_it_by_one_a_round_and_lift_it_in_the_end(throttle):
    enter(throttle, 8)
    throttle.refused()
    assert throttle.limit == 4
    for _ in range(4):
        throttle.succeeded()
    assert 4.8 < throttle.limit <= 5
    for _ in range(4 * 8):
        throttle.succeeded()
    assert throttle.limit is None, "past the 8 that were inside at the refusal"


def test_one_alone_is_not_held_back_for_ever(throttle):
    throttle.enter()
    throttle.refused()
    assert throttle.limit == 1
    throttle.leave()
    throttle.enter()
    throttle.succeeded()
    assert throttle.limit is None


def test_who_waits_gets_the_place_of_one_who_leaves(throttle):
    enter(throttle, 2)
    throttle.refused()
    assert throttle.limit == 1
    entered = threading.Event()

    def late():
        throttle.enter(30)
        entered.set()

    thread = threading.Thread(target=late)
    thread.start()
    assert not entered.wait(0.05)
    throttle.leave()
    assert not entered.wait(0.05), "one is still inside, and one is the limit"
    throttle.leave()
    assert entered.wait(30)
    thread.join(30)
    assert throttle.inside == 1


def test_patience_ends(throttle):
    enter(throttle, 2)
    throttle.refused()
    throttle.enter(0.01)
    assert throttle.inside == 3


@pytest.mark.parametrize("wake", ["close", "succeeded"])
def test_waiters_are_woken(throttle, wake):
    enter(throttle, 4)
    throttle.refused()
    throttle.leave()
    throttle.leave()
    threads = [threading.Thread(target=throttle.enter, args=(30,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        getattr(throttle, wake)()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_never_more_inside_than_the_limit(clock):
    """32 threads, one refusal, no success: 16 at a time, whoever comes and goes."""
    throttle = Throttle(clock=clock)
    enter(throttle, 32)
    throttle.refused()
    for _ in range(32):
        throttle.leave()
    most, lock = [0], threading.Lock()

    def work():
        for _ in range(100):
            throttle.enter(30)
            with lock:
                most[0] = max(most[0], throttle.inside)
            throttle.leave()

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert 1 <= most[0] <= 16
    assert throttle.inside == 0
