"""Uploads of the native engine, seen from the server: which requests, how many at a time, what a fault leaves."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from s3dlio.errors import ClosedError, NotFoundError, OptionError, StorageError, StorageTimeoutError
from s3dlio.storage import NativeStore
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.storage.native import store as native
from s3dlio.storage.native import writer as native_writer
from s3dlio.uri import Uri

from ..servers.fault_actions import close_before_answer, delay_first_byte, lose_answer, run_before, status

PART = 5 << 20  # the least that S3 takes
PARTS = "partNumber="


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(native_writer, "PART_BYTES", PART)
    monkeypatch.setattr(native, "PART_BYTES", PART)


@pytest.fixture
def open_native():
    stores = []

    def open_one(server, **changes):
        uri = Uri.parse(f"s3://{server.container}")
        options = StorageOptions.from_env("s3", **{"retry_deadline_s": 60, "max_attempts": 3, **changes})
        stores.append(NativeStore(uri, options))
        return stores[-1]

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(fault_proxy, open_native):
    return open_native(fault_proxy)


def read(server, key):
    """The object by boto3, past the proxy; None if there is none."""
    with server.upstream.client() as client:
        try:
            with client.get_object(Bucket=server.container, Key=key)["Body"] as body:
                return body.read()
        except client.exceptions.NoSuchKey:
            return None


def write_past(server, key, data):
    with server.upstream.client() as client:
        client.put_object(Bucket=server.container, Key=key, Body=data)


def unfinished(server, key):
    with server.upstream.client() as client:
        uploads = client.list_multipart_uploads(Bucket=server.container).get("Uploads", [])
    return [upload for upload in uploads if upload["Key"] == key]


def content(size):
    return np.random.default_rng(size).bytes(size)


def test_a_small_object_is_one_put(fault_proxy, store):
    with store.open_writer("small") as writer:
        for _ in range(10):
            writer.write(b"0123456789")
    result = writer.close()
    assert (result.size, result.parts) == (100, 1)
    assert result.etag == hashlib.md5(b"0123456789" * 10, usedforsecurity=False).hexdigest()
    assert [seen.method for seen in fault_proxy.requests] == ["PUT"]


def test_a_large_object_is_parts_and_a_head(fault_proxy, store):
    data = content(2 * PART + 7)
    with store.open_writer("large") as writer:
        for start in range(0, len(data), 1 << 20):
            writer.write(data[start : start + (1 << 20)])
    result = writer.close()
    assert (result.size, result.parts) == (len(data), 3)
    assert result.etag.endswith("-3")
    assert read(fault_proxy, "large") == data
    assert fault_proxy.count("PUT", query=PARTS) == 3
    assert fault_proxy.count("POST") == 2
    assert fault_proxy.count("HEAD") == 1
    assert len(fault_proxy.requests) == 6


@pytest.mark.parametrize("pieces", [1, 40])
def test_a_fast_producer_waits(fault_proxy, store, pieces):
    """No more than four parts are on their way, and the producer gets one part ahead of them, also by one big write."""
    gate = fault_proxy.fail(delay_first_byte(), query=PARTS, times=None)
    data = bytes(40 * PART // 4)
    accepted = []

    def produce():
        with store.open_writer("fast") as writer:
            size = len(data) // pieces
            for start in range(0, len(data), size):
                writer.write(data[start : start + size])
                accepted.append(start + size)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        assert gate.reached.wait(30)
        producer.join(1)
        assert producer.is_alive(), "nobody waited"
        assert fault_proxy.count("PUT", query=PARTS) == 4
        assert sum(accepted[-1:]) <= (0 if pieces == 1 else 6 * PART)
    finally:
        gate.release()
        producer.join()
    assert accepted[-1] == len(data)
    assert read(fault_proxy, "fast") == data


def test_every_part_is_signed_with_its_checksum(fault_proxy, store):
    """The server can tell a damaged part: the SHA-256 of each is a part of its signature."""
    seen = []

    def note(exchange):
        seen.append((exchange.request.get("x-amz-content-sha256"), exchange.body()))

    fault_proxy.fail(note, query=PARTS, times=None)
    data = content(3 * PART)
    with store.open_writer("signed") as writer:
        writer.write(data)
    assert len(seen) == 3
    assert b"".join(sorted((body for _, body in seen), key=data.index)) == data
    assert all(said == hashlib.sha256(body).hexdigest() for said, body in seen)


def test_every_part_carries_the_checksum_that_was_asked_for(fault_proxy, open_native):
    """As a header of its own, which the server keeps; in a single put, too."""
    seen = []
    fault_proxy.fail(
        lambda exchange: seen.append(exchange.request.get("x-amz-checksum-sha256")), method="PUT", times=None
    )
    store = open_native(fault_proxy, request_checksum="when_supported")
    with store.open_writer("checked") as writer:
        writer.write(bytes(2 * PART))
    store.put("checked-2", bytes(2 * PART))
    store.put("checked-3", b"1")
    assert len(seen) == 5
    assert all(seen)


def test_parts_are_repeated(fault_proxy, store):
    """A part that the server refuses for now is sent again, and no other."""
    fault_proxy.fail(status(503), query="partNumber=2", times=2)
    data = content(3 * PART)
    with store.open_writer("repeated") as writer:
        writer.write(data)
    assert read(fault_proxy, "repeated") == data
    assert fault_proxy.count("PUT", query=PARTS) == 5


@pytest.mark.parametrize(
    ("method", "query"),
    [("POST", "uploads"), ("PUT", "partNumber=1&"), ("PUT", "partNumber=3&"), ("POST", "uploadId=")],
)
@pytest.mark.parametrize("pieces", [1, 12])
def test_a_failure_publishes_nothing(fault_proxy, store, method, query, pieces):
    """Whichever request fails, the error comes at the latest from close, and the upload is aborted."""
    fault_proxy.fail(status(400, "InvalidRequest"), method=method, query=query, times=None)
    data = bytes(12 * PART // 2)
    with pytest.raises(StorageError) as caught, store.open_writer("failing") as writer:
        size = len(data) // pieces
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
    assert caught.value.uri == store.uri("failing")
    assert read(fault_proxy, "failing") is None
    assert unfinished(fault_proxy, "failing") == []


def test_a_failed_writer_stays_failed(fault_proxy, store):
    fault_proxy.fail(status(400, "InvalidRequest"), query="partNumber=1&")
    writer = store.open_writer("failed")
    with pytest.raises(StorageError):
        for _ in range(20):
            writer.write(bytes(PART))
    with pytest.raises(RuntimeError):
        writer.write(b"more")
    with pytest.raises(RuntimeError):
        writer.close()
    assert read(fault_proxy, "failed") is None


def test_an_abort_that_fails_is_noted(fault_proxy, store):
    """The first error is the one that is raised; the upload that is left behind is mentioned."""
    fault_proxy.fail(status(400, "InvalidRequest"), query="partNumber=1&")
    fault_proxy.fail(status(403), method="DELETE", times=None)
    writer = store.open_writer("noted")
    with pytest.raises(StorageError) as caught:
        for _ in range(20):
            writer.write(bytes(PART))
    assert any("abort" in note for note in caught.value.__notes__)


def write(store, key, data):
    with store.open_writer(key) as writer:
        writer.write(data)
    return writer.close()


def test_an_upload_whose_completion_was_not_heard_of(fault_proxy, store):
    """The server has published it, and all answers were lost: found by its mark, it is a success."""
    data = content(2 * PART + 7)
    for key, call in (("lost", write), ("lost-put", lambda store, key, data: store.put(key, data))):
        fault_proxy.clear()
        fault_proxy.fail(lose_answer(), method="POST", query="uploadId", times=None)
        result = call(store, key, data)
        assert (result.key, result.size) == (key, len(data))
        assert result.etag.endswith("-3")
        assert read(fault_proxy, key) == data
        assert fault_proxy.count("HEAD") == 1


def test_an_upload_whose_completion_never_came(fault_proxy, store):
    """Nothing is there, or another object is: an error."""
    data = content(PART + 7)
    fault_proxy.fail(close_before_answer(), method="POST", query="uploadId", times=None)
    with pytest.raises(StorageTimeoutError, match=r"^close .*/never: the connection broke") as caught:
        write(store, "never", data)
    assert "visible" not in str(caught.value)
    assert read(fault_proxy, "never") is None
    assert unfinished(fault_proxy, "never") == []
    before = content(PART + 8)
    write_past(fault_proxy, "before", before[:9])
    with pytest.raises(StorageTimeoutError, match=r"broke.*The object that is visible under the key is another one\.$"):
        write(store, "before", data)
    assert read(fault_proxy, "before") == before[:9]


def test_an_object_that_may_be_the_upload(fault_proxy, store):
    """As on a server that keeps no metadata: nobody can tell, and the error says so."""
    data = content(PART + 7)
    fault_proxy.fail(close_before_answer(), method="POST", query="uploadId", times=None)
    write_past(fault_proxy, "same", data)
    with pytest.raises(StorageTimeoutError, match=r"visible under the key, and may be this one, complete"):
        write(store, "same", data)


def test_an_upload_of_which_nothing_can_be_found_out(fault_proxy, store):
    fault_proxy.fail(lose_answer(), method="POST", query="uploadId", times=None)
    fault_proxy.fail(close_before_answer(), method="HEAD", times=None)
    with pytest.raises(StorageError, match=r"^close .*/dark: .*may be lost, and the object visible and complete"):
        write(store, "dark", content(PART + 7))
    assert read(fault_proxy, "dark") is not None


def test_an_upload_that_somebody_has_aborted(fault_proxy, store):
    def abort():
        with fault_proxy.upstream.client() as client:
            for upload in unfinished(fault_proxy, "aborted"):
                client.abort_multipart_upload(Bucket=fault_proxy.container, Key="aborted", UploadId=upload["UploadId"])

    fault_proxy.fail(run_before(abort), method="POST", query="uploadId")
    with pytest.raises(StorageError, match=r"^close .*/aborted: the upload is gone, .* No object came of it") as caught:
        write(store, "aborted", content(PART + 7))
    assert not isinstance(caught.value, NotFoundError)
    assert read(fault_proxy, "aborted") is None


@pytest.mark.parametrize("end", ["abort", "write", "close"])
def test_a_store_closed_before_its_writer_leaves_no_upload(fault_proxy, store, end):
    writer = store.open_writer("orphan")
    writer.write(content(6 * PART))  # more than can be on their way, so the upload was begun
    assert len(unfinished(fault_proxy, "orphan")) == 1
    store.close()
    if end == "abort":
        writer.abort()
    else:
        with pytest.raises(ClosedError) as caught:
            writer.write(b"1") if end == "write" else writer.close()
        assert not hasattr(caught.value, "__notes__")
    assert unfinished(fault_proxy, "orphan") == []
    assert read(fault_proxy, "orphan") is None


def test_who_may_not_read_may_write(fault_proxy, store):
    """The ETag is unknown then; the object is there."""
    fault_proxy.fail(status(403), method="HEAD", times=None)
    with store.open_writer("write-only") as writer:
        writer.write(bytes(2 * PART))
    assert (writer.close().size, writer.close().etag) == (2 * PART, None)
    assert len(read(fault_proxy, "write-only")) == 2 * PART


def test_too_many_parts_are_an_error_early(monkeypatch, fault_proxy, store):
    """At the first byte too many, in words that say what to do; and not with a hint."""
    monkeypatch.setattr(native_writer, "MAX_PARTS", 3)
    writer = store.open_writer("long")
    writer.write(bytes(3 * PART))
    with pytest.raises(StorageError, match="size_hint"):
        writer.write(b"1")
    assert read(fault_proxy, "long") is None
    assert unfinished(fault_proxy, "long") == []
    with store.open_writer("long", size_hint=4 * PART) as writer:
        writer.write(bytes(4 * PART))
    assert writer.close().parts == 3


@pytest.mark.parametrize("size", [None, 0, 1, 10_000 * PART, 10_000 * PART + 1, 1 << 40, 5 << 40])
def test_part_sizes(size):
    part = native_writer.part_size(size)
    assert part >= PART
    assert part % (1 << 20) == 0
    assert part * 10_000 >= (size or 0)
    assert part == PART or (part - (1 << 20)) * 10_000 < size


@pytest.mark.parametrize("hint", [-1, 10_000 * (5 << 30) + 1])
def test_a_hint_that_is_none(store, hint):
    with pytest.raises(OptionError, match="size_hint"):
        store.open_writer("k", size_hint=hint)


KILLED = """
import os, signal, sys
from s3dlio.storage import NativeStore
from s3dlio.storage.native import writer as native_writer
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.uri import Uri
native_writer.PART_BYTES = 5 << 20
store = NativeStore(Uri.parse(sys.argv[1]), StorageOptions.from_env("s3"))
writer = store.open_writer("killed")
for _ in range(6):
    writer.write(bytes(5 << 20))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_publishes_nothing(fault_proxy, store):
    """Not even its parts are listed; the server keeps them until the upload is aborted or expires."""
    store.put("killed", b"what was there")
    done = subprocess.run([sys.executable, "-c", KILLED, f"s3://{fault_proxy.container}"], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert fault_proxy.count("PUT", query=PARTS) >= 1
    assert read(fault_proxy, "killed") == b"what was there"
    assert store.head("killed").size == 14
    with fault_proxy.upstream.client() as client:
        for upload in unfinished(fault_proxy, "killed"):
            client.abort_multipart_upload(Bucket=fault_proxy.container, Key="killed", UploadId=upload["UploadId"])


@pytest.mark.parametrize("write", [lambda writer: None, lambda writer: writer.write(b"1")])
def test_a_dropped_writer_warns(store, write):
    writer = store.open_writer("dropped")
    write(writer)
    with pytest.warns(ResourceWarning, match="neither closed nor aborted"):
        del writer


VERBS = {
    "head": (lambda store: store.head("one"), "HEAD"),
    "get": (lambda store: store.get("one"), "GET"),
    "get_range": (lambda store: store.get_range("one", 1, 2), "GET"),
    "get_into": (lambda store: store.get_into("one", bytearray(2), 1), "GET"),
    "put": (lambda store: store.put("two", b"1"), "PUT"),
    "create": (lambda store: store.put("three", b"1", mode="create"), "PUT"),
    "copy": (lambda store: store.copy("one", "four"), "PUT"),
    "delete": (lambda store: store.delete("two"), "POST"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_one_request(fault_proxy, store, verb):
    """Also when it fails: repeating is the business of the store above."""
    call, method = VERBS[verb]
    store.put("one", b"content")
    for key in ("two", "three", "four"):
        store.delete(key)
    fault_proxy.clear()
    call(store)
    assert [seen.method for seen in fault_proxy.requests] == [method]
    store.delete("three")
    fault_proxy.clear()
    fault_proxy.fail(status(503), times=None)
    with pytest.raises(StorageError) as caught:
        call(store)
    assert caught.value.retryable
    assert [seen.method for seen in fault_proxy.requests] == [method]


def test_a_large_put_repeats_its_parts(fault_proxy, store):
    fault_proxy.fail(status(503), query="partNumber=2", times=2)
    data = content(3 * PART)
    store.put("large-put", data)
    assert read(fault_proxy, "large-put") == data
    assert fault_proxy.count("PUT", query=PARTS) == 5


def test_a_large_put_that_fails_leaves_nothing(fault_proxy, store):
    fault_proxy.fail(status(400, "InvalidRequest"), query="partNumber=2", times=None)
    with pytest.raises(StorageError) as caught:
        store.put("failed-put", bytes(3 * PART))
    assert caught.value.operation == "put"
    assert read(fault_proxy, "failed-put") is None
    assert unfinished(fault_proxy, "failed-put") == []


def test_a_create_is_one_put(monkeypatch, fault_proxy, store):
    """However large, up to what a put may have."""
    store.delete("created")
    fault_proxy.clear()
    store.put("created", bytes(3 * PART), mode="create")
    assert len(fault_proxy.requests) == 1
    monkeypatch.setattr(native, "_CREATE_BYTES", PART)
    with pytest.raises(OptionError, match="overwrite"):
        store.put("created-2", bytes(PART + 1), mode="create")


def test_a_copy_that_the_server_refuses_goes_through_this_machine(monkeypatch, fault_proxy, store):
    """As S3 refuses it for more than 5 GiB."""
    data = content(2 * PART + 1)
    store.put("source", data)
    fault_proxy.fail(status(400, "InvalidRequest"), method="PUT", path="target$", query="^$", times=None)
    with pytest.raises(StorageError):
        store.copy("source", "target")
    assert read(fault_proxy, "target") is None
    monkeypatch.setattr(native, "_COPY_BYTES", PART)
    monkeypatch.setattr(native, "_COPY_PIECE_BYTES", PART)
    store.copy("source", "target")
    assert read(fault_proxy, "target") == data
    assert fault_proxy.count("GET", "source$") == 3


def test_a_source_that_changes_while_it_is_copied(monkeypatch, fault_proxy, store):
    """Is an error, and no mixture is published."""
    store.put("changing", bytes(2 * PART))
    monkeypatch.setattr(native, "_COPY_BYTES", PART)
    monkeypatch.setattr(native, "_COPY_PIECE_BYTES", PART)
    fault_proxy.fail(status(400, "InvalidRequest"), method="PUT", path="mixture$", query="^$")

    def overwrite(_exchange):
        with fault_proxy.upstream.client() as client:
            client.put_object(Bucket=fault_proxy.container, Key="changing", Body=b"?" * 2 * PART)

    fault_proxy.fail(overwrite, method="GET", path="changing$", skip=1)
    with pytest.raises(StorageError, match="overwritten"):
        store.copy("changing", "mixture")
    assert read(fault_proxy, "mixture") is None
    assert unfinished(fault_proxy, "mixture") == []


@pytest.mark.parametrize("stuck", [True, False])
def test_ctrl_c_in_a_write_that_waits(fault_proxy, store, stuck):
    """It ends at once, publishes nothing, and aborts: now, or when the server takes what was on its way."""
    gate = fault_proxy.fail(delay_first_byte(), query=PARTS, times=None)
    aborted = threading.Event()
    fault_proxy.fail(lambda _: aborted.set(), method="DELETE")

    def interrupt():
        assert gate.reached.wait(30)
        os.kill(os.getpid(), signal.SIGINT)
        if not stuck:
            gate.release()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    writer = store.open_writer("interrupted")
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught, writer:
        while True:
            writer.write(bytes(PART))
    assert time.monotonic() - began < 10
    interrupter.join()
    said = any("abort" in note for note in getattr(caught.value, "__notes__", []))
    if stuck:
        assert said
        assert not aborted.is_set()
    else:
        assert said or aborted.is_set(), "a loaded machine may be too slow; then it says so"
    gate.release()
    assert aborted.wait(30)
    assert read(fault_proxy, "interrupted") is None
    with pytest.raises(RuntimeError):
        writer.write(b"1")


def test_a_large_put_left_by_ctrl_c_sends_no_later_bytes(fault_proxy, store):
    """What is completed behind the back of who has left is what was put, and not what the memory became."""
    left, ended = threading.Event(), threading.Event()
    sent = threading.Barrier(4)

    def refuse_once_left(exchange):
        sent.wait(30)
        left.wait(30)
        status(503)(exchange)

    def end(_exchange):
        ended.set()

    def interrupt():
        sent.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    refusals = fault_proxy.fail(refuse_once_left, query=PARTS, times=3)  # so that all parts are sent once more
    fault_proxy.fail(end, method="POST", query="uploadId=")
    fault_proxy.fail(end, method="DELETE")
    data = content(3 * PART)
    array = np.frombuffer(data, np.uint8).copy()
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        store.put("torn", array)
    interrupter.join()
    array[:] = 0
    left.set()
    assert ended.wait(30)
    assert refusals.applied == 3
    assert read(fault_proxy, "torn") in {None, data}


def test_ctrl_c_in_close(fault_proxy, store):
    """Of an object that is one put: the request is left, and may have arrived or not."""
    gate = fault_proxy.fail(delay_first_byte(), method="PUT")
    interrupter = threading.Thread(target=lambda: gate.reached.wait(30) and os.kill(os.getpid(), signal.SIGINT))
    interrupter.start()
    writer = store.open_writer("interrupted-close")
    writer.write(b"1")
    with pytest.raises(KeyboardInterrupt):
        writer.close()
    interrupter.join()
    gate.release()
    with pytest.raises(RuntimeError):
        writer.close()


def test_ctrl_c_between_writes(fault_proxy, store):
    """Nor does the writer wait for an abort that nobody answers."""
    gate = fault_proxy.fail(delay_first_byte(), method="DELETE")
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt) as caught, store.open_writer("between") as writer:
        writer.write(bytes(3 * PART))
        raise KeyboardInterrupt
    took = time.monotonic() - began
    gate.release()
    assert took < 10
    assert any("abort" in note for note in caught.value.__notes__)
    assert read(fault_proxy, "between") is None


def test_a_closed_writer_has_no_thread(store):
    before = set(threading.enumerate())
    with store.open_writer("small") as writer:
        writer.write(b"1")
    for thread in set(threading.enumerate()) - before:
        if thread.name == "s3dlio-write":  # others are the server's
            thread.join(10)
            assert not thread.is_alive()
    assert writer.close().size == 1
