"""The choice of endpoints, with a clock that the test moves."""

import gc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.storage.multi.balance import Balancer

URLS = [f"http://{name}" for name in "abcd"]


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def ask(balancer, *, fails=()):
    """One request as the store makes it: on to the next endpoint until one works. The numbers it went to."""
    went = []
    while ticket := balancer.take(went):
        went.append(ticket.number)
        if ticket.number not in fails:
            balancer.answered(ticket, read=10)
            return went
        balancer.failed(ticket)
    return went


def test_round_robin_is_even(clock):
    balancer = Balancer(URLS, "round_robin", clock=clock)
    assert [ask(balancer) for _ in range(8)] == [[0], [1], [2], [3]] * 2


def test_round_robin_stays_even_without_one(clock):
    balancer = Balancer(URLS, "round_robin", clock=clock)
    while ask(balancer, fails={1})[0] != 1:
        pass
    counts = Counter(ask(balancer, fails={1})[0] for _ in range(300))
    assert counts == {0: 100, 2: 100, 3: 100}


def test_least_connections(clock):
    balancer = Balancer(URLS[:3], "least_connections", clock=clock)
    slow = [balancer.take() for _ in range(3)]
    assert sorted(ticket.number for ticket in slow) == [0, 1, 2]
    balancer.answered(slow[1])
    fast = slow[1].number
    for _ in range(5):
        ticket = balancer.take()
        assert ticket.number == fast
        balancer.answered(ticket)


def test_least_connections_takes_turns_when_equal(clock):
    balancer = Balancer(URLS, "least_connections", clock=clock)
    assert Counter(ask(balancer)[0] for _ in range(40)) == {0: 10, 1: 10, 2: 10, 3: 10}


@pytest.mark.parametrize(("rank", "number"), [(0, 0), (3, 3), (5, 1), (4000, 0)])
def test_rank(clock, rank, number):
    balancer = Balancer(URLS, "rank", rank=rank, clock=clock)
    assert {ask(balancer)[0] for _ in range(10)} == {number}


def test_ranks_of_a_dead_endpoint_spread_and_come_back(clock):
    balancers = [Balancer(URLS, "rank", rank=rank, clock=clock) for rank in (2, 6, 10)]
    assert [ask(balancer, fails={2}) for balancer in balancers] == [[2, 0], [2, 1], [2, 3]]
    assert [ask(balancer, fails={2}) for balancer in balancers] == [[0], [1], [3]]
    clock.now += 1
    assert [ask(balancer) for balancer in balancers] == [[2], [2], [2]]


def test_set_aside_for_a_growing_time(clock):
    balancer = Balancer(URLS[:2], "round_robin", clock=clock)
    assert ask(balancer, fails={0}) == [0, 1]
    waits = []
    for _ in range(8):
        since = clock.now
        while ask(balancer, fails={0})[0] != 0:
            clock.now += 0.5
        waits.append(clock.now - since)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    clock.now += 60
    assert ask(balancer) == [0]
    assert not balancer.statistics[0].set_aside
    assert ask(balancer, fails={0, 1}) in ([0, 1], [1, 0]), "it takes its turns again"
    clock.now += 1
    assert ask(balancer) == [0], "and its penalty starts again at the shortest"


def test_one_probe_at_a_time(clock):
    balancer = Balancer(URLS[:2], "round_robin", clock=clock)
    ask(balancer, fails={0})
    clock.now += 5
    probe = balancer.take()
    assert (probe.number, probe.probe) == (0, True)
    assert {ask(balancer)[0] for _ in range(10)} == {1}
    balancer.left(probe)  # Ctrl-C: no verdict
    probe = balancer.take()
    assert probe.number == 0
    balancer.answered(probe)
    assert {ask(balancer)[0] for _ in range(10)} == {0, 1}


def test_a_request_that_failed_is_no_probe(clock):
    balancer = Balancer(URLS[:3], "round_robin", clock=clock)
    ask(balancer, fails={0})
    clock.now += 5
    ticket = balancer.take()
    assert ticket.number == 0
    balancer.failed(ticket)
    clock.now += 5  # and 0 is due again by the time that 1 fails
    went = [1]
    assert balancer.take(went).number == 2


def test_requests_under_way_together_are_one_failure(clock):
    balancer = Balancer(URLS[:2], "rank", clock=clock)
    together = [balancer.take() for _ in range(64)]
    clock.now += 30
    for ticket in together:
        balancer.failed(ticket)
    assert balancer.statistics[0].errors == 64
    clock.now += 1
    assert balancer.take().number == 0, "due after the first penalty, not after the 64th"


def test_an_old_answer_does_not_bring_it_back(clock):
    balancer = Balancer(URLS[:2], "rank", clock=clock)
    old, other = balancer.take(), balancer.take()
    clock.now += 1
    balancer.failed(other)
    balancer.answered(old)
    assert balancer.statistics[0].set_aside


def test_all_are_tried_when_all_are_down(clock):
    balancer = Balancer(URLS, "least_connections", clock=clock)
    assert sorted(ask(balancer, fails={0, 1, 2, 3})) == [0, 1, 2, 3]
    assert sorted(ask(balancer, fails={0, 1, 2, 3})) == [0, 1, 2, 3]
    assert ask(balancer)[0] in range(4)


@pytest.mark.parametrize("balance", ["round_robin", "least_connections", "rank"])
def test_while_all_are_down_requests_spread(clock, balance):
    """No herd at one of them: servers that ask for less are set aside, too."""
    balancer = Balancer(URLS, balance, clock=clock)
    ask(balancer, fails=range(4))
    went = Counter(balancer.take().number for _ in range(40))
    assert went == dict.fromkeys(range(4), 10)


@given(
    st.sampled_from(["round_robin", "least_connections", "rank"]),
    st.integers(1, 5),
    st.lists(st.tuples(st.sets(st.integers(0, 4)), st.floats(0, 5)), max_size=40),
)
def test_the_counts_add_up(balance, number, history):
    clock = Clock()
    balancer = Balancer(URLS[:1] * number, balance, rank=7, clock=clock)
    went = []
    for fails, pause_s in history:
        tried = ask(balancer, fails=fails)
        assert len(set(tried)) == len(tried)
        assert tried[-1] not in fails or sorted(tried) == list(range(number)), "gave up before all were tried"
        went += [(one, one in fails) for one in tried]
        clock.now += pause_s
    for one, found in enumerate(balancer.statistics):
        assert found.requests == sum(to == one for to, _ in went)
        assert found.errors == sum(to == one and failed for to, failed in went)
        assert found.bytes_read == 10 * (found.requests - found.errors)
        assert (found.in_flight, found.bytes_written) == (0, 0)


def test_a_finalizer_inside_of_the_lock(clock):
    """A garbage collection may end a listing, which gives its ticket back, anywhere: also inside of ``take``."""
    balancer = Balancer(URLS, "round_robin", clock=clock)
    returned = []

    class Listing:
        def __init__(self):
            self.ticket = balancer.take()
            self.cycle = self

        def __del__(self):
            balancer.answered(self.ticket)
            returned.append(self.ticket)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(100):
            Listing()
            ask(balancer)
            balancer.statistics  # noqa: B018 - builds objects under the lock
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(returned) == 100
    assert sum(one.in_flight for one in balancer.statistics) == 0
