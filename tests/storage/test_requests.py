"""The policy alone, over engines that are functions."""

import random
import signal
import threading
import time
from types import SimpleNamespace

import pytest

from s3dlio.errors import AccessError, ClosedError, NotFoundError, StorageError, StorageTimeoutError, ThrottledError
from s3dlio.storage import StorageOptions
from s3dlio.storage.requests import policy
from s3dlio.storage.requests.policy import Limit, Requests, RequestStatistics, Verb

ENGINE = object()


@pytest.fixture
def jitter(monkeypatch):
    """The bounds of every pause; the pauses themselves last no time."""
    seen = []

    def uniform(low, high):
        seen.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    return seen


@pytest.fixture
def make():
    made = []

    def make(**options):
        made.append(Requests(StorageOptions(**options)))
        return made[-1]

    yield make
    for requests in made:
        requests.close()


def verb(call, *, limit=None, hedge_size=None, renew=lambda engine, error, refused_at: False):
    return Verb("get", "s3://b/k", call, lambda: ENGINE, renew, limit, hedge_size)


def failing(*errors, result="result"):
    """A call that raises these in turn, and then returns."""
    left = list(errors)

    def call(engine):
        assert engine is ENGINE
        if left:
            raise left.pop(0)
        return result

    return call


def broken(**attributes):
    error = StorageError("get s3://b/k: broke.", uri="s3://b/k", operation="get", retryable=True)
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def in_thread(function):
    """Run it in a thread that is not the main one; its result or error."""
    found = []

    def run():
        try:
            found.append(function())
        except BaseException as error:  # noqa: BLE001 - handed over
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, found


def counts(policy, **expected):
    fields = dict.fromkeys(RequestStatistics.__slots__, 0)
    assert policy.statistics == RequestStatistics(**{**fields, **expected})


def test_repeats_until_it_works_with_full_jitter(make, jitter):
    requests = make(max_attempts=10)
    assert requests.run(verb(failing(*(broken() for _ in range(8))))) == "result"
    assert jitter == [(0, bound) for bound in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)]
    counts(requests, requests=9, retries=8)


def test_gives_up_after_max_attempts_and_says_so(make, jitter):
    requests = make(max_attempts=3)
    with pytest.raises(
        StorageError, match=r"^get s3://b/k: broke\. Gave up after 3 attempts in \d+\.\d s\.$"
    ) as caught:
        requests.run(verb(failing(*(broken() for _ in range(9)))))
    assert (caught.value.attempts, caught.value.retryable) == (3, True)
    counts(requests, requests=3, retries=2)


def test_what_the_engine_repeated_counts(make, jitter):
    with pytest.raises(StorageError) as caught:
        make(max_attempts=6).run(verb(failing(broken(attempts=4), broken(attempts=4), broken())))
    assert caught.value.attempts == 8


@pytest.mark.parametrize("error", [NotFoundError("no", attempts=1), StorageError("400"), StorageError("x", attempts=0)])
def test_no_repetition_of_what_cannot_help(make, jitter, error):
    with pytest.raises(StorageError) as caught:
        make().run(verb(failing(error)))
    assert caught.value is error
    assert str(error) in {"no", "400", "x"}
    assert jitter == []


def test_other_errors_pass(make):
    requests = make()
    with pytest.raises(ZeroDivisionError):
        requests.run(verb(failing(ZeroDivisionError())))
    assert requests.run(verb(failing())) == "result"


def test_no_attempt_after_the_deadline(make, monkeypatch):
    pauses = []
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    monkeypatch.setattr(policy, "wait_for", lambda _event, pause_s: pauses.append(pause_s))
    monkeypatch.setattr(policy, "time", SimpleNamespace(monotonic=lambda: sum(pauses)))
    with pytest.raises(StorageError) as caught:
        make(max_attempts=1000, retry_deadline_s=1.45).run(verb(failing(*(broken() for _ in range(99)))))
    assert pauses == [0.1, 0.2, 0.4], "one of 0.8 s more does not fit"
    assert caught.value.attempts == 4


def test_a_pause_that_the_server_asks_for(make, jitter):
    began = time.monotonic()
    error = ThrottledError("slow down")
    error.retry_after_s = 0.15
    requests = make()
    assert requests.run(verb(failing(error))) == "result"
    assert time.monotonic() - began >= 0.15
    counts(requests, requests=2, retries=1, throttled=1)


def test_a_pause_longer_than_the_deadline_is_not_waited_for(make, jitter):
    error = ThrottledError("slow down")
    error.retry_after_s = 60.0
    with pytest.raises(ThrottledError):
        make(retry_deadline_s=1.0).run(verb(failing(error)))


def test_close_wakes_who_pauses(make, monkeypatch):
    paused = threading.Event()

    def uniform(low, high):
        paused.set()
        return 60.0

    monkeypatch.setattr(random, "uniform", uniform)
    requests = make(retry_deadline_s=100.0)
    thread, found = in_thread(lambda: requests.run(verb(failing(broken()))))
    assert paused.wait(30)
    requests.close()
    thread.join(30)
    assert isinstance(found[0], ClosedError)
    with pytest.raises(ClosedError, match=r"get s3://b/k"):
        requests.run(verb(failing()))


def test_a_refusal_halves_the_requests_at_a_time(make, jitter):
    """8 inside are refused; then 4 run at a time."""
    requests = make(max_attempts=20)
    everyone, leave, lock = threading.Barrier(8, timeout=30), threading.Event(), threading.Lock()
    inside, most, four = set(), [0], threading.Event()
    refused = threading.local()

    def call(engine):
        if not hasattr(refused, "once"):
            refused.once = True
            everyone.wait()
            raise ThrottledError("slow down")
        with lock:
            inside.add(threading.get_ident())
            most[0] = max(most[0], len(inside))
            if len(inside) == 4:
                four.set()
        leave.wait(30)
        with lock:
            inside.discard(threading.get_ident())
        return "result"

    threads = [in_thread(lambda: requests.run(verb(call))) for _ in range(8)]
    assert four.wait(30)
    assert most[0] == 4
    leave.set()
    for thread, found in threads:
        thread.join(30)
        assert found == ["result"]
    counts(requests, requests=16, retries=8, throttled=8)


def test_renewed_credentials_are_tried_once(make, jitter):
    asked = []

    def renew(engine, error, refused_at):
        asked.append((engine, error))
        return True

    errors = [AccessError("1"), AccessError("2")]
    requests = make()
    assert requests.run(verb(failing(errors[0]), renew=renew)) == "result"
    with pytest.raises(AccessError, match="2"):
        requests.run(verb(failing(*errors), renew=renew))
    assert [error for _, error in asked] == [errors[0], errors[0]]
    with pytest.raises(AccessError):
        requests.run(verb(failing(AccessError("3"))))


@pytest.fixture
def stuck():
    """A call that hangs until the test ends."""
    leave = threading.Event()
    yield lambda engine: leave.wait(60)
    leave.set()


def test_a_request_that_hangs_is_given_up(make, stuck):
    requests = make(max_attempts=1)
    began = time.monotonic()
    with pytest.raises(StorageTimeoutError, match=r"get s3://b/k: no answer in time \(0\.\d+ s\).*read_timeout_s"):
        requests.run(verb(stuck, limit=Limit(0.05, 1000)))
    assert time.monotonic() - began < 5
    counts(requests, requests=1, timeouts=1)
    assert requests.run(verb(failing(), limit=Limit(5, 1000))) == "result", "its thread does not count"


def test_bytes_get_their_time(make):
    moved = threading.Event()

    def call(engine):
        moved.wait(0.3)
        return "result"

    assert make().run(verb(call, limit=Limit(0.01, 1000, 60_000))) == "result"
    asked = []
    limit = Limit(0.1, 1000, find_size=lambda: asked.append(1) or 60_000)
    assert make().run(verb(call, limit=limit)) == "result"
    assert asked == [1]


def test_a_size_that_cannot_be_found_out_gives_no_time(make, stuck):
    def find_size():
        raise NotFoundError("no")

    for find in (find_size, lambda: stuck(ENGINE)):
        with pytest.raises(StorageTimeoutError):
            make(max_attempts=1).run(verb(stuck, limit=Limit(0.05, 1000, find_size=find)))


def test_a_signal_that_does_not_interrupt_a_pause(make):
    """Of the time that the server has asked for. The signal goes to another thread, as one that comes too early."""

    def call(_engine):
        threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT)).start()
        error = ThrottledError("slow down")
        error.retry_after_s = 20
        raise error

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        make(retry_deadline_s=30).run(verb(call))
    assert time.monotonic() - began < 10


def test_a_size_that_no_thread_is_left_to_ask_for_gives_no_time(make, stuck):
    """The verb's error is of its own request."""
    requests = make(max_attempts=1)

    def call(engine):
        requests._threads._max_left = 0  # as if that many others hung by now
        return stuck(engine)

    with pytest.raises(StorageTimeoutError, match="no answer in time"):
        requests.run(verb(call, limit=Limit(0.05, 1000, find_size=lambda: 60_000)))


def test_threads_are_used_only_where_a_call_may_be_left(make):
    requests = make()
    assert requests.run(verb(lambda engine: threading.get_ident())) != threading.get_ident(), "the main thread"
    thread, found = in_thread(lambda: (threading.get_ident(), requests.run(verb(lambda engine: threading.get_ident()))))
    thread.join(30)
    assert found[0][0] == found[0][1]
    assert requests.detaches(None)
    thread, found = in_thread(lambda: (requests.detaches(None), requests.detaches(Limit(1, 1))))
    thread.join(30)
    assert found == [(False, True)]


def warmed(requests, size=100):
    for _ in range(32):
        requests.run(verb(failing(), hedge_size=size))
    return requests


def first_hangs(stuck, then):
    calls = []

    def call(engine):
        calls.append(1)
        return stuck(engine) if len(calls) == 1 else then(engine)

    return call


def test_a_slow_read_is_sent_again_and_the_first_answer_wins(make, stuck):
    requests = warmed(make(hedge_percentile=95))
    counts(requests, requests=32)
    assert requests.run(verb(first_hangs(stuck, failing(result="second")), hedge_size=100)) == "second"
    counts(requests, requests=34, hedged=1, hedge_wins=1)


def test_no_second_read_before_enough_is_known_of_its_size(make, stuck):
    requests = warmed(make(hedge_percentile=95, max_attempts=1), size=100)
    with pytest.raises(StorageTimeoutError):
        requests.run(verb(first_hangs(stuck, failing()), hedge_size=100_000, limit=Limit(0.05, 10**9)))
    assert requests.statistics.hedged == 0


def test_what_is_not_a_read_is_sent_once(make, stuck):
    requests = warmed(make(hedge_percentile=95, max_attempts=1))
    with pytest.raises(StorageTimeoutError):
        requests.run(verb(first_hangs(stuck, failing()), limit=Limit(0.05, 10**9)))
    assert requests.statistics.hedged == 0


def test_a_failure_loses_to_an_answer(make):
    leave = threading.Event()
    calls = []

    def call(engine):
        calls.append(1)
        if len(calls) == 1:
            leave.wait(30)
            return "first, late"
        try:
            raise broken()
        finally:
            leave.set()

    requests = warmed(make(hedge_percentile=50, max_attempts=1))
    assert requests.run(verb(call, hedge_size=100)) == "first, late"
    counts(requests, requests=34, hedged=1)


def test_a_server_that_throttles_is_not_asked_twice(make, stuck, jitter):
    requests = warmed(make(hedge_percentile=95, max_attempts=1, retry_deadline_s=0.1))
    held = threading.Event()
    waiting = [in_thread(lambda: requests.run(verb(lambda engine: held.wait(30)))) for _ in range(3)]
    with pytest.raises(ThrottledError):
        requests.run(verb(failing(ThrottledError("slow down"))))
    assert requests._throttle.limit is not None
    with pytest.raises(StorageTimeoutError):
        requests.run(verb(stuck, hedge_size=100, limit=Limit(0.05, 10**9)))
    assert requests.statistics.hedged == 0
    held.set()
    for thread, _ in waiting:
        thread.join(30)
