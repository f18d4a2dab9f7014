import threading

import numpy as np
import pytest

from s3dlio.errors import NotFoundError, OptionError, PreconditionError, ShortReadError, StorageError
from s3dlio.storage import MemoryStore
from s3dlio.storage.object_read import PART_BYTES, PARTS_IN_FLIGHT, ObjectRead, get_clipped, read
from s3dlio.testing.faults import FaultyStore

from ..threads import all_ended

SIZE = 5 * PART_BYTES + 7


@pytest.fixture(scope="module")
def content():
    return np.random.default_rng(0).integers(0, 256, SIZE, np.uint8).tobytes()


@pytest.fixture
def store(content):
    store = MemoryStore("object-read")
    store.put("x", content)
    yield store
    store.clear()


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, None),
        (3, None),
        (SIZE - 1, None),
        (SIZE, None),
        (0, SIZE),
        (5, PART_BYTES + 5),
        (5, PART_BYTES + 6),
        (PART_BYTES - 1, 4 * PART_BYTES),
        (7, 7),
    ],
)
def test_any_range(store, content, start, end):
    expected = content[start : SIZE if end is None else end]
    assert read(store, "x", start=start, end=end).result().to_pybytes() == expected
    memory = bytearray(len(expected) + 2)
    done = read(store, "x", start=start, end=end, into=memory)
    assert done.size == len(expected)
    assert memory == expected + b"\0\0"
    assert done.result().to_pybytes() == expected


def test_parts_cover_what_the_first_request_left(store):
    reading = ObjectRead(store, "x", start=100)
    reading.begin()
    edges = [100 + PART_BYTES * n for n in range(1, 5)] + [SIZE]
    assert reading.parts == [(a, b) for a, b in zip([*edges[:-1]], edges[1:], strict=True)], (
        "in order, without gaps, up to the end"
    )


def test_a_range_past_the_end(store):
    for start, end in ((0, SIZE + 1), (SIZE + 1, None), (SIZE - 1, SIZE + 1), (2 * SIZE, 3 * SIZE)):
        with pytest.raises(ShortReadError, match=f"has {SIZE} bytes"):
            read(store, "x", start=start, end=end)
    for start, end in ((-1, None), (3, 2)):
        with pytest.raises(OptionError):
            read(store, "x", start=start, end=end)
    with pytest.raises(NotFoundError):
        read(store, "none")


def test_an_object_overwritten_on_the_way(store, content):
    """Whichever part comes after it."""

    def before(call):
        if call.verb == "get_into" and call.start == 3 * PART_BYTES:
            store.put("x", content[::-1])

    with pytest.raises(PreconditionError):
        read(FaultyStore(store, before=before), "x")
    with pytest.raises(PreconditionError):
        read(store, "x", etag="another")


def test_a_part_that_fails_ends_the_read(store):
    def before(call):
        if call.start == 2 * PART_BYTES:
            raise StorageError("injected")

    with pytest.raises(StorageError, match="injected"):
        read(FaultyStore(store, before=before), "x")
    assert all_ended("s3dlio-get")


def test_parts_in_flight_are_bounded():
    store = MemoryStore("object-read-many")
    store.put("x", bytes((PARTS_IN_FLIGHT + 9) * PART_BYTES))
    changed, inside, most = threading.Condition(), [0], []

    def before(call):
        if call.verb != "get_into":
            return
        with changed:
            inside[0] += 1
            most.append(inside[0])
            changed.notify_all()
            assert changed.wait_for(lambda: len(most) >= PARTS_IN_FLIGHT, 30)
            inside[0] -= 1

    read(FaultyStore(store, before=before), "x")
    store.clear()
    assert max(most) == PARTS_IN_FLIGHT


def test_clipped_by_head_and_range_where_a_store_has_no_verb(store, content):
    class Old:
        def head(self, key):
            return store.head(key)

        def get_range(self, key, start, end, *, etag):
            assert etag == store.head(key).etag
            return store.get_range(key, start, end, etag=etag)

    meta, data = get_clipped(Old(), "x", 5, 9)
    assert (meta, data.to_pybytes()) == (store.head("x"), content[5:9])
    assert get_clipped(Old(), "x", SIZE - 2, SIZE + 9)[1].to_pybytes() == content[-2:]
    assert get_clipped(Old(), "x", SIZE, SIZE + 9)[1].size == 0
    assert get_clipped(Old(), "x", SIZE + 5, SIZE + 9)[1].size == 0
