"""Answers that begin well: cut, reset, stalled and late bodies, and objects that change between two requests.

What must come out is the right bytes after a retry, or an error in time; never other bytes, never a hang.
"""

import time

import pytest

from s3dlio.errors import PreconditionError, ShortReadError, StorageError, StorageTimeoutError
from s3dlio.reading import FetchOptions, Request, fetch

from ..servers.fault_actions import (
    close_before_answer,
    delay_first_byte,
    reset_in_body,
    reset_in_request,
    run_before,
    short_body,
    stall,
    truncate,
)

BODY = bytes(range(256)) * 400
LIMIT_S = 10.0
"""For a verb with ``read_timeout_s`` and ``retry_deadline_s`` of 1 s, which needs 3, on a busy machine. A stall that is
not noticed lasts until the proxy stops, and the default deadline is 12 s."""


def read_into(store):
    buffer = bytearray(len(BODY))
    store.get_into("k", buffer)
    return bytes(buffer)


READS = {
    "get": lambda store: store.get("k").to_pybytes(),
    "get_range": lambda store: store.get_range("k", 0, len(BODY)).to_pybytes(),
    "get_into": read_into,
}
every_read = pytest.mark.parametrize("read", [*READS])
broken_bodies = pytest.mark.parametrize(
    "fault",
    [reset_in_body(after=0), reset_in_body(after=5000), short_body(by=1), short_body(by=len(BODY)), stall(after=5000)],
    ids=["reset-at-once", "reset", "one-byte-short", "empty", "stall"],
)


@pytest.fixture
def bucket(faulty_anywhere):
    faulty_anywhere.raw.write("k", BODY)
    return faulty_anywhere


@every_read
@broken_bodies
def test_a_broken_body_is_read_again(bucket, read, fault):
    rule = bucket.proxy.fail(fault, method="GET", query=bucket.reads)
    began = time.monotonic()
    with bucket.open(read_timeout_s=1) as store:
        assert READS[read](store) == BODY
    assert rule.applied == 1
    assert time.monotonic() - began < LIMIT_S


@every_read
@broken_bodies
def test_bodies_that_break_for_ever(bucket, read, fault):
    bucket.proxy.fail(fault, method="GET", query=bucket.reads, times=None)
    began = time.monotonic()
    with (
        bucket.open(read_timeout_s=1, retry_deadline_s=1, max_attempts=3) as store,
        pytest.raises(
            (StorageTimeoutError, ShortReadError), match=r"(s3|az|gs)://.*/k\b.*, expected .*\. \w"
        ) as caught,
    ):
        READS[read](store)
    assert time.monotonic() - began < LIMIT_S
    assert caught.value.retryable


@pytest.mark.parametrize("read", ["get_range", "get_into"])
def test_a_range_with_fewer_bytes_than_it_has(bucket, read):
    """Whose Content-Length is honest about it: only the range that was asked for gives it away."""
    bucket.proxy.fail(truncate(by=7), method="GET", query=bucket.reads, times=None)
    with bucket.open(retry_deadline_s=0.5) as store, pytest.raises(StorageError) as caught:
        READS[read](store)
    assert caught.value.retryable
    bucket.proxy.clear()
    bucket.proxy.fail(truncate(by=7), method="GET", query=bucket.reads)
    with bucket.open() as store:
        assert READS[read](store) == BODY


def test_a_late_first_byte(bucket):
    bucket.proxy.fail(delay_first_byte(0.3), times=None)
    with bucket.open(read_timeout_s=5) as store:
        assert store.get("k").to_pybytes() == BODY
    assert bucket.proxy.count("GET", query=bucket.reads) == 1, "patience is cheaper than a second request"


def test_a_first_byte_that_comes_too_late_once(bucket):
    rule = bucket.proxy.fail(delay_first_byte(), method="GET", query=bucket.reads)
    with bucket.open(read_timeout_s=1) as store:
        assert store.get("k").to_pybytes() == BODY
    assert rule.applied == 1


def test_a_first_byte_that_never_comes(bucket):
    bucket.proxy.fail(delay_first_byte(), times=None)
    began = time.monotonic()
    with (
        bucket.open(read_timeout_s=1, retry_deadline_s=1) as store,
        pytest.raises(StorageTimeoutError, match=r"no answer in time") as caught,
    ):
        store.get("k")
    assert time.monotonic() - began < LIMIT_S
    assert caught.value.retryable


@pytest.mark.parametrize(
    "fault",
    [
        reset_in_request(after=0),
        reset_in_request(after=5000),
        close_before_answer(),
        close_before_answer(reset=True),
        delay_first_byte(),
    ],
    ids=["at-once", "in-the-body", "closed", "reset", "no-answer"],
)
def test_a_put_that_breaks(bucket, fault):
    rule = bucket.proxy.fail(fault, method="PUT")
    with bucket.open(read_timeout_s=1) as store:
        assert store.put("new", BODY).size == len(BODY)
    assert rule.applied == 1
    assert bucket.raw.read("new") == BODY


@pytest.mark.parametrize(
    "fault", [reset_in_body(after=100), short_body(by=5), stall(after=0)], ids=["reset", "short", "stall"]
)
def test_a_page_of_a_listing_that_breaks(bucket, fault):
    """Every key once: a page is not delivered twice, nor half a page."""
    keys = {f"many/{number:04d}" for number in range(30)}
    for key in keys:
        bucket.raw.write(key, b"1")
    rule = bucket.proxy.fail(fault, method="GET", query=bucket.lists)
    # What Google's own client does not notice is given up after 20 times that.
    with bucket.open(read_timeout_s=0.1 if bucket.google_by_arrow else 1) as store:
        found = [key for page in store.list("many") for key in page.column("key").to_pylist()]
    assert rule.applied == 1
    assert sorted(found) == sorted(keys)


def test_parts_that_break(bucket):
    """Each part of a large object alone is read again."""
    data = BODY * 16  # 1.6 MB: 7 parts
    bucket.raw.write("large", data)
    looks = bucket.found_by if bucket.looks["method"] == "GET" else 0
    missing = len(data) if bucket.google_by_arrow else 3  # whose every answer goes to the object's end
    for number, fault in enumerate([reset_in_body(after=100), short_body(by=missing), close_before_answer()]):
        bucket.proxy.fail(fault, method="GET", path="large", query=bucket.reads, skip=looks + number)
    request = Request(key="large", end=len(data), whole=True)
    with bucket.open_patiently() as store:
        ((_, buffer),) = fetch(store, [request], FetchOptions(part_bytes=1 << 18))
        assert buffer.to_pybytes() == data
    assert bucket.proxy.count("GET", "large", query=bucket.reads) == looks + 7 + 3


@pytest.mark.parametrize("number", [0, 1, 6])
def test_an_object_replaced_between_two_ranges(bucket, number):
    """Of the same size, so that only its version tells. arrow compares it by requests of its own around each range."""
    old, new = BODY * 16, BODY[::-1] * 16
    bucket.raw.write("large", old)
    request = Request(key="large", end=len(old), whole=True)
    replace = run_before(lambda: bucket.raw.write("large", new))
    bucket.proxy.fail(replace, path="large", skip=bucket.found_by + number, **bucket.looks)
    options = FetchOptions(part_bytes=1 << 18, max_in_flight=1)
    with bucket.open() as store:
        with pytest.raises(PreconditionError, match=r"large.*another version") as caught:
            list(fetch(store, [request], options))
        assert not caught.value.retryable
        ((_, buffer),) = fetch(store, [request], options)
        assert buffer.to_pybytes() == new, "read anew, it is whole again"


def test_an_object_replaced_between_stat_and_read(bucket):
    meta = None
    with bucket.open() as store:
        meta = store.head("k")
        bucket.raw.write("k", BODY[::-1])
        with pytest.raises(PreconditionError, match=r"another version"):
            store.get_range("k", 0, 10, etag=meta.etag)


def test_an_object_that_shrank(bucket):
    with bucket.open() as store:
        size = store.head("k").size
        bucket.raw.write("k", BODY[:100])
        with pytest.raises(ShortReadError, match=r"the object (has 100 bytes|ends before)") as caught:
            store.get_range("k", 0, size)
        assert not caught.value.retryable
        with pytest.raises(ShortReadError):
            store.get_range("k", 200, size)
