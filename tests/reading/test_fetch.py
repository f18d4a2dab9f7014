import itertools
import pickle
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3dlio.errors import (
    ClosedError,
    NotFoundError,
    OptionError,
    PreconditionError,
    ShortReadError,
    StorageTimeoutError,
)
from s3dlio.reading import FetchOptions, Request, fetch
from s3dlio.storage import MemoryStore
from s3dlio.testing.faults import FaultyStore, fail_at

from ..threads import all_ended, threads_begun

_NAMES = itertools.count()


def memory(**objects):
    store = MemoryStore(f"fetch-{next(_NAMES)}")
    store.clear()
    for key, data in objects.items():
        store.put(key, data)
    return store


def pattern(size, salt=0):
    return bytes((7 * i + salt) % 251 for i in range(size))


def small(**overrides):
    return FetchOptions(**{"max_in_flight": 3, "budget_bytes": 100, "part_bytes": 16, **overrides})


def fetched(store, requests, options):
    return [(index, buffer.to_pybytes()) for index, buffer in fetch(store, requests, options)]


@st.composite
def reads(draw):
    sizes = draw(st.lists(st.integers(0, 90), min_size=1, max_size=4))
    plan = []
    for _ in range(draw(st.integers(0, 12))):
        which = draw(st.integers(0, len(sizes) - 1))
        if draw(st.booleans()):
            plan.append((which, 0, sizes[which], True))
        else:
            start = draw(st.integers(0, sizes[which]))
            plan.append((which, start, draw(st.integers(start, sizes[which])), False))
    return sizes, plan


@settings(deadline=None, max_examples=150)
@given(reads(), st.integers(1, 40), st.integers(1, 200), st.integers(1, 5), st.booleans())
def test_bytes_are_the_slices_asked_for_in_order(reads, part_bytes, budget, in_flight, pinned):
    sizes, plan = reads
    plain = [pattern(size, salt) for salt, size in enumerate(sizes)]
    store = memory(**{f"k{i}": data for i, data in enumerate(plain)})
    requests = [
        Request(key=f"k{i}", start=start, end=end, whole=whole, etag=store.head(f"k{i}").etag if pinned else None)
        for i, start, end, whole in plan
    ]
    options = FetchOptions(max_in_flight=in_flight, budget_bytes=budget, part_bytes=part_bytes)
    expected = [(at, plain[i][start:end]) for at, (i, start, end, _) in enumerate(plan)]
    assert fetched(store, requests, options) == expected


def test_order_when_the_last_answers_first():
    store = memory(**{f"k{i}": pattern(10, i) for i in range(4)})
    done = {f"k{i}": threading.Event() for i in range(4)}

    def after_the_next(call):
        following = f"k{int(call.key[1:]) + 1}"
        assert following not in done or done[following].wait(10)
        done[call.key].set()

    late = FaultyStore(store, before=after_the_next)
    requests = [Request(key=f"k{i}", end=10, whole=True) for i in range(4)]
    assert fetched(late, requests, small(max_in_flight=4)) == [(i, pattern(10, i)) for i in range(4)]
    assert [call.verb for call in late.calls] == ["get"] * 4


def test_requests_are_taken_lazily_and_the_budget_holds():
    store = memory(k=pattern(10))
    taken = []

    def requests():
        for n in range(100):
            taken.append(n)
            yield Request(key="k", end=10, whole=True)

    ahead = fetch(store, requests(), small(budget_bytes=30))
    assert taken == []
    for so_far in range(1, 100):
        next(ahead)
        # 30 bytes ready or in flight, and one more request that waits for room
        assert len(taken) <= so_far + 4
    ahead.close()


def test_an_error_comes_at_its_place_and_nothing_after_it():
    store = FaultyStore(memory(**{f"k{i}": pattern(10) for i in range(6)}))
    store.delete("k3")
    requests = [Request(key=f"k{i}", end=10, whole=True) for i in range(6)]
    ahead = fetch(store, requests, small(max_in_flight=6))
    assert [next(ahead)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(NotFoundError) as caught:
        next(ahead)
    assert caught.value.uri == store.uri("k3")
    assert list(ahead) == []


def test_a_timeout_keeps_its_type_and_traceback():
    injected = StorageTimeoutError("injected", uri="memory://x/k", operation="get")
    store = FaultyStore(memory(k=pattern(50)), before=fail_at(2, injected))
    with pytest.raises(StorageTimeoutError) as caught:
        fetched(store, [Request(key="k", end=50)], small())
    assert caught.value is injected
    assert "before" in [entry.name for entry in caught.traceback]


@pytest.mark.parametrize(("size", "verb"), [(10, "get"), (40, "get_into")])
def test_a_short_read_is_an_error(size, verb):
    store = FaultyStore(memory(k=pattern(size)), shorten=lambda call: 1 if call.verb == verb else 0)
    with pytest.raises(ShortReadError):
        fetched(store, [Request(key="k", end=size, whole=True)], small())


def test_fewer_bytes_than_listed_are_an_error_even_from_a_store_that_does_not_notice():
    store = FaultyStore(memory(k=pattern(10)), shorten=lambda call: 1, silent=True)
    with pytest.raises(PreconditionError, match="got 9 bytes, expected 10"):
        fetched(store, [Request(key="k", end=10, whole=True)], small())


@pytest.mark.parametrize("now", [9, 11, 40, 60])
@pytest.mark.parametrize("listed", [10, 50])
def test_an_object_of_another_size_than_listed_is_an_error_never_a_prefix(listed, now):
    store = memory(k=pattern(now))
    with pytest.raises(PreconditionError, match=f"got {now} bytes, expected {listed}"):
        fetched(store, [Request(key="k", end=listed, whole=True)], small())


def test_parts_of_one_object_are_of_one_version():
    store = memory(k=pattern(64, 1))

    def overwrite(call):
        if call.verb == "get_into" and call.start == 32:
            store.put("k", pattern(64, 2))

    torn = FaultyStore(store, before=overwrite)
    with pytest.raises(PreconditionError) as caught:
        fetched(torn, [Request(key="k", end=64, whole=True)], small(max_in_flight=1))
    assert caught.value.uri == store.uri("k")


def test_parts_ask_for_the_version_given_or_for_one_found_by_a_single_head():
    store = memory(k=pattern(64), small=pattern(16))
    etag = store.head("k").etag
    for known, heads in ((etag, 0), (None, 1)):
        faulty = FaultyStore(store)
        requests = [Request(key="k", end=64, etag=known), Request(key="small", end=16, etag=None, whole=True)]
        fetched(faulty, requests, small(max_in_flight=5))
        assert [call.verb for call in faulty.calls].count("head") == heads
        parts = [call for call in faulty.calls if call.verb == "get_into"]
        assert sorted(call.start for call in parts) == [0, 16, 32, 48]
        assert {call.etag for call in parts} == {etag}
        assert [call.verb for call in faulty.calls if call.key == "small"] == ["get"]


@pytest.mark.parametrize("size", [16, 64])
def test_another_version_than_asked_for_is_refused(size):
    store = memory(k=pattern(size))
    old = store.head("k").etag
    store.put("k", pattern(size, 1))
    with pytest.raises(PreconditionError):
        fetched(store, [Request(key="k", end=size, whole=True, etag=old)], small())


def test_buffers_are_read_only():
    store = memory(k=pattern(64))
    for _, buffer in fetch(store, [Request(key="k", end=64), Request(key="k", end=3)], small()):
        assert memoryview(buffer).readonly
        with pytest.raises(TypeError):
            memoryview(buffer)[0] = 1


def test_a_source_that_fails_is_an_error_after_what_it_gave():
    def requests():
        yield Request(key="k", end=3)
        raise RuntimeError("the index is broken")

    ahead = fetch(memory(k=b"abc"), requests(), small())
    assert next(ahead)[1].to_pybytes() == b"abc"
    with pytest.raises(RuntimeError, match="the index is broken"):
        next(ahead)


def test_leaving_early_ends_the_threads():
    ahead = fetch(memory(k=b"abc"), itertools.repeat(Request(key="k", end=3)), small())
    next(ahead)
    assert threads_begun()
    ahead.close()
    assert all_ended()


def test_dropping_it_ends_the_threads():
    ahead = fetch(memory(k=b"abc"), itertools.repeat(Request(key="k", end=3)), small())
    next(ahead)
    assert threads_begun()
    del ahead
    assert all_ended()


def test_a_closed_one_is_no_end_of_the_data():
    with fetch(memory(k=b"abc"), [Request(key="k", end=3)], small()) as ahead:
        pass
    with pytest.raises(ClosedError):
        next(ahead)


def test_close_wakes_a_consumer_that_waits():
    inside, release = threading.Event(), threading.Event()

    def hang(_call):
        inside.set()
        release.wait(30)

    ahead = fetch(FaultyStore(memory(k=b"abc"), before=hang), [Request(key="k", end=3)], small())
    caught = []

    def consume():
        try:
            next(ahead)
        except ClosedError as error:
            caught.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert inside.wait(10)
    ahead.close()
    consumer.join(10)
    assert not release.is_set()
    assert len(caught) == 1
    release.set()


@pytest.mark.parametrize(("sizes", "threads"), [([10], 1), ([10] * 3, 3), ([10, 64], 5), ([10] * 9, 6), ([640], 6)])
def test_no_more_threads_than_tasks(sizes, threads):
    store = memory(**{f"k{i}": pattern(size) for i, size in enumerate(sizes)})
    together = threading.Barrier(threads)  # so that none has ended before the last has begun
    seen = set()

    def meet(call):
        if call.verb != "head":
            seen.add(threading.current_thread())
            if call.number < threads:
                together.wait(10)

    requests = (Request(key=f"k{i}", end=size, etag=store.head(f"k{i}").etag) for i, size in enumerate(sizes))
    options = small(max_in_flight=6, budget_bytes=1000)
    assert len(fetched(FaultyStore(store, before=meet), requests, options)) == len(sizes)
    assert len(seen) == threads


def test_few_requests_start_few_threads():
    with fetch(memory(k=b"abc"), [Request(key="k", end=3)] * 2, small(max_in_flight=50)) as ahead:
        next(ahead)
        assert len(threads_begun()) <= 2


def test_max_ahead_counts_what_is_not_handed_over():
    changed, begun = threading.Condition(), []

    def count(call):
        with changed:
            begun.append(call)
            changed.notify_all()

    store = FaultyStore(memory(k=pattern(1)), before=count)
    requests = [Request(key="k", end=1)] * 40
    with fetch(store, requests, small(max_in_flight=8, max_ahead=3)) as ahead:
        for handed_over in range(1, 30):
            next(ahead)
            with changed:
                assert changed.wait_for(lambda bound=handed_over + 3: len(begun) >= bound, 10)
                assert len(begun) == handed_over + 3


def test_max_ahead_is_checked():
    assert FetchOptions(max_ahead=None).max_ahead is None
    for value in (0, -1, 1.5, True, "8"):
        with pytest.raises(OptionError, match="max_ahead"):
            FetchOptions(max_ahead=value)


@pytest.mark.parametrize("field", ["max_in_flight", "budget_bytes", "part_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", None])
def test_options_are_checked(field, value):
    with pytest.raises(OptionError, match=field) as caught:
        FetchOptions(**{field: value})
    assert caught.value.field == field


def test_options_and_requests_pickle():
    for value in (small(), Request(key="k", end=3, etag="v1")):
        assert pickle.loads(pickle.dumps(value)) == value
