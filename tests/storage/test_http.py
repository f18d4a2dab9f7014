"""``http://``: what is asked of the server, and that nothing but the object's own bytes is ever delivered."""

import concurrent.futures
import contextlib
import email.utils
import hashlib
import http.client
import io
import os
import pickle
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import warnings

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import s3dlio
from s3dlio.errors import (
    AccessError,
    ClosedError,
    NotFoundError,
    OptionError,
    PreconditionError,
    ShortReadError,
    StorageError,
    StorageTimeoutError,
    ThrottledError,
)
from s3dlio.storage import loans
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.storage.http.connections import RedirectError, Url
from s3dlio.storage.http.engine import RangeIgnoredWarning
from s3dlio.storage.http.store import HttpStore
from s3dlio.uri import Uri

from ..servers.certificates import make_certificate
from .web_server import MODIFIED, WebServer

DATA = bytes(range(256)) * 400
QUICK = {"max_attempts": 3, "retry_deadline_s": 5.0, "connect_timeout_s": 2.0, "read_timeout_s": 2.0}


def open_web(url, **options):
    return HttpStore(Uri.parse(url), StorageOptions(**{**QUICK, **options}))


@pytest.fixture
def web(monkeypatch):
    for name in [*os.environ]:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with WebServer() as web:
        web.objects["/k"] = DATA
        yield web


@pytest.fixture
def store(web):
    with open_web(web.url) as store:
        yield store


def asked(web):
    return [(method, path) for method, path, _ in web.requests]


def etag(data=DATA):
    return hashlib.md5(data).hexdigest()


def test_reading(web, store):
    data = store.get("k")
    assert isinstance(data, pa.Buffer)
    assert not data.is_mutable
    assert data.to_pybytes() == DATA
    assert store.get_range("k", 5, 1000).to_pybytes() == DATA[5:1000]
    assert store.get_range("k", len(DATA) - 1, len(DATA), etag=etag()).to_pybytes() == DATA[-1:]
    memory = np.zeros(3000, np.uint8)
    store.get_into("k", memory[1000:2000], 7, etag=etag())
    assert memory.tobytes() == bytes(1000) + DATA[7:1007] + bytes(1000)
    meta = store.head("k")
    assert (meta.key, meta.size, meta.etag) == ("k", len(DATA), etag())
    assert meta.mtime.timestamp() == MODIFIED
    assert [method for method, _ in asked(web)] == ["GET"] * 4 + ["HEAD"], "one request a verb"
    assert all(headers["Accept-Encoding"] == "identity" for _, _, headers in web.requests)


def test_empty_objects_and_ranges(web, store):
    web.objects["/empty"] = b""
    assert store.get("empty").size == 0
    assert store.head("empty").size == 0
    for key, size in (("empty", 0), ("k", len(DATA))):
        assert store.get_range(key, size, size).size == 0
        store.get_into(key, bytearray(), size)
        with pytest.raises(ShortReadError) as caught:
            store.get_range(key, size + 1, size + 1)
        assert not caught.value.retryable
    with pytest.raises(PreconditionError):
        store.get_range("k", 3, 3, etag="another")


@pytest.mark.parametrize("ignores_range", [False, True])
@pytest.mark.parametrize(("start", "end"), [(0, len(DATA) + 1), (len(DATA), len(DATA) + 1), (9, 1 << 40)])
@pytest.mark.filterwarnings("ignore::s3dlio.storage.http.engine.RangeIgnoredWarning")
def test_range_past_the_end(web, store, start, end, ignores_range):
    web.ignores_range = ignores_range
    with pytest.raises(ShortReadError, match=rf"has {len(DATA)} bytes, expected {end} or more") as caught:
        store.get_range("k", start, end)
    assert not caught.value.retryable
    assert len(web.requests) == 1, "no retry can help"
    if end < 1 << 30:
        with pytest.raises(ShortReadError):
            store.get_into("k", bytearray(end - start), start)


def test_errors_name_what_was_called(web, store):
    web.objects["/empty"] = b""
    for call, name in (
        (lambda: s3dlio.get(f"{web.url}/none"), "get"),
        (lambda: s3dlio.get_range(f"{web.url}/none", 3), "get_range"),
        (lambda: s3dlio.stat(f"{web.url}/none"), "stat"),
        (lambda: s3dlio.open(f"{web.url}/none"), "open"),
        (lambda: store.get_clipped("none", 0, 0), "get"),
        (lambda: store.get_clipped("none", 0, 5), "get"),
        (lambda: store.get_range("none", 1, 1), "get_range"),
    ):
        with pytest.raises(NotFoundError, match=f"^{name} {web.url}/none: ") as caught:
            call()
        assert caught.value.operation == name


@pytest.mark.parametrize("ignores_range", [False, True])
@pytest.mark.filterwarnings("ignore::s3dlio.storage.http.engine.RangeIgnoredWarning")
def test_get_clipped(web, store, ignores_range):
    web.ignores_range = ignores_range
    size = len(DATA)
    for start, end in ((0, 10), (0, size), (0, 1 << 40), (5, size + 1), (size - 1, size + 9)):
        meta, data = store.get_clipped("k", start, end)
        assert (meta.size, meta.etag) == (size, etag())
        assert data.to_pybytes() == DATA[start:end]
    assert len(web.requests) == 5, "one request each"
    for start, end in ((size, size + 5), (size + 7, 1 << 40), (4, 4)):
        meta, data = store.get_clipped("k", start, end)
        assert (meta.size, data.size) == (size, 0)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4)])
def test_range_that_is_none(web, store, start, end):
    with pytest.raises(OptionError):
        store.get_range("k", start, end)
    with pytest.raises(OptionError):
        store.get_into("k", bytearray(1), -1)
    with pytest.raises(OptionError):
        store.get_into("k", b"read-only")
    assert web.requests == []


def test_what_is_not_there(web, store):
    for verb in (store.get, store.head, lambda key: store.get_range(key, 0, 1), lambda key: store.get_range(key, 1, 1)):
        with pytest.raises(NotFoundError, match=f"{web.url}/none: no such object"):
            verb("none")


def test_versions(web, store):
    store.get_range("k", 0, 4, etag=etag())
    web.objects["/k"] = DATA[::-1]
    for verb in (
        lambda: store.get_range("k", 0, 4, etag=etag()),
        lambda: store.get_into("k", bytearray(4), etag=etag()),
    ):
        with pytest.raises(PreconditionError):
            verb()
    assert web.requests[-1][2]["If-Match"] == f'"{etag()}"'


def test_a_server_that_ignores_if_match(web, store):
    """The version is checked in the answer, too."""
    web.behaviours.append(lambda handler: handler.headers.__delitem__("If-Match"))  # and goes on
    assert store.get_range("k", 0, 4, etag=etag()).to_pybytes() == DATA[:4]
    with pytest.raises(PreconditionError):
        store.get_range("k", 0, 4, etag="another")


@pytest.mark.parametrize("mark", [None, 'W/"weak"'])
def test_weak_and_missing_versions(web, store, mark):
    """A weak one is compared here, because If-Match never matches it; without one, nothing can be pinned."""
    web.etag = lambda body: mark
    assert store.head("k").etag == mark
    if mark is not None:
        assert store.get_range("k", 0, 4, etag=mark).to_pybytes() == DATA[:4]
        assert "If-Match" not in web.requests[-1][2]
    with pytest.raises(PreconditionError):
        store.get_range("k", 0, 4, etag='W/"another"')


def test_a_server_that_ignores_range(web, store):
    """The right bytes, and one warning that it is slow."""
    web.ignores_range = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert store.get_range("k", 0, 10).to_pybytes() == DATA[:10]
        assert caught == []
        assert store.get_range("k", 5000, 60_000).to_pybytes() == DATA[5000:60_000]
        memory = bytearray(100)
        store.get_into("k", memory, 700)
        assert memory == DATA[700:800]
    assert [warning.category for warning in caught] == [RangeIgnoredWarning]
    assert "ignores Range" in str(caught[0].message)
    assert store.get("k").to_pybytes() == DATA


@pytest.mark.parametrize(
    "content_range",
    ["bytes 1-10/102400", "bytes 0-99/102400", "bytes 0-8/102400", "bytes */102400", "bytes x", "", "items 0-9/9"],
)
def test_an_answer_with_another_range_is_refused(web, store, content_range):
    web.behaviours.append(lambda handler: handler.answer(206, DATA[:10], {"Content-Range": content_range}) or True)
    with pytest.raises(StorageError, match=r"got the range|got 9 bytes, expected 10"):
        store.get_range("k", 0, 10)


def test_an_answer_with_less_than_its_range(web, store):
    """The header says ten bytes, nine come."""
    web.behaviours.append(
        lambda handler: handler.answer(206, DATA[:9], {"Content-Range": "bytes 0-9/102400"}, announce=10) or True
    )
    with pytest.raises(ShortReadError, match="got 9 bytes, expected 10") as caught:
        store.get_range("k", 0, 10)
    assert caught.value.attempts == 3


def test_chunked_answers(web, store):
    web.behaviours.append(lambda handler: handler.answer(200, DATA, {"ETag": '"v"'}, chunked=True) or True)
    assert store.get("k").to_pybytes() == DATA
    assert store.get_range("k", 0, 5000).to_pybytes() == DATA[:5000]
    meta, data = store.get_clipped("k", 0, 1 << 40)
    assert (meta.size, data.to_pybytes()) == (len(DATA), DATA)
    with pytest.raises(ShortReadError, match=rf"has {len(DATA)} bytes") as caught:
        store.get_range("k", 0, len(DATA) + 1)
    assert not caught.value.retryable
    with pytest.raises(StorageError, match="announces no size"):
        store.head("k")


def cut_chunks(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"a\r\n0123456789\r\n")
    handler.close_connection = True
    return True


@pytest.mark.parametrize("cut", ["length", "chunks", "no length", "reset"])
def test_a_body_that_is_cut_is_never_data(web, store, cut):
    def behave(handler):
        if cut == "length":
            handler.answer(200, DATA[:-1], announce=len(DATA))
        elif cut == "chunks":
            cut_chunks(handler)
        elif cut == "no length":
            handler.answer(200, DATA, announce=-1)
        else:
            handler.answer(200, DATA[:1000], announce=len(DATA))
            handler.wfile.flush()
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
        return True

    web.behaviours.append(behave)
    for verb in (store.get, lambda key: store.get_into(key, bytearray(len(DATA)))):
        with pytest.raises(StorageError) as caught:
            verb("k")
        assert caught.value.retryable == (cut != "no length")
        assert caught.value.attempts == (1 if cut == "no length" else 3)
        assert isinstance(caught.value, ShortReadError) == (cut in {"length", "chunks"})
    web.behaviours.clear()
    assert store.get("k").to_pybytes() == DATA, "the broken connection was kept"


def test_a_passing_disturbance_is_ridden_out(web, store):
    web.times(1, lambda handler: handler.answer(500, b""))
    web.times(1, lambda handler: handler.answer(200, DATA[:10], announce=len(DATA)))
    assert store.get("k").to_pybytes() == DATA
    assert len(web.requests) == 3
    web.times(2, lambda handler: handler.answer(429, b"", {"Retry-After": "0"}))
    assert store.head("k").size == len(DATA)


@pytest.mark.parametrize(("status", "expected"), [(500, StorageError), (502, StorageError), (503, ThrottledError)])
def test_a_server_in_trouble(web, store, status, expected):
    web.behaviours.append(lambda handler: handler.answer(status, b"oops") or True)
    for verb in (store.get, store.head):
        web.requests.clear()
        with pytest.raises(expected) as caught:
            verb("k")
        assert caught.value.attempts == len(web.requests) == 3


def test_retry_after_reaches_the_policy(web, store):
    for header, least, most in (
        ("7", 7, 7),
        (email.utils.formatdate(time.time() + 100, usegmt=True), 90, 100),
        ("x", 0, 0),
    ):
        web.times(1, lambda handler, header=header: handler.answer(429, b"", {"Retry-After": header}))
        with pytest.raises(ThrottledError) as caught:
            store._engine().get("k")
        assert least <= (caught.value.retry_after_s or 0) <= most
    assert caught.value.retry_after_s is None


@pytest.mark.parametrize("status", [401, 403])
def test_no_access(web, store, status):
    body = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    web.behaviours.append(lambda handler: handler.answer(status, body) or True)
    with pytest.raises(AccessError, match=r"access denied \(AccessDenied\)"):
        store.get("k")
    with pytest.raises(AccessError):
        store.head("k")
    with pytest.raises(AccessError):
        store.get_range("k", 0, 4)


@pytest.mark.parametrize("status", [400, 418, 204, 304])
def test_other_answers(web, store, status):
    web.behaviours.append(lambda handler: handler.answer(status, b"") or True)
    with pytest.raises(StorageError, match=rf"HTTP {status}"):
        store.get("k")
    assert len(web.requests) == 1


@pytest.mark.parametrize("status", [403, 405, 501])
def test_head_where_only_get_is_allowed(web, store, status):
    """As with presigned URLs, whose signature is for one method."""
    web.behaviours.append(lambda handler: handler.command == "HEAD" and (handler.answer(status, b"") or True))
    meta = store.head("k")
    assert (meta.size, meta.etag) == (len(DATA), etag())
    assert web.requests[-1][2]["Range"] == "bytes=0-0"
    web.objects["/empty"] = b""
    assert store.head("empty").size == 0
    web.ignores_range = True
    assert store.head("k").size == len(DATA)


def test_silence(web):
    release = threading.Event()
    with open_web(web.url, read_timeout_s=0.2, max_attempts=2) as store:
        try:
            web.behaviours.append(lambda handler: release.wait(60))
            with pytest.raises(StorageTimeoutError, match=r"no answer in time at http://127.0.0.1") as caught:
                store.get("k")
            assert caught.value.attempts == 2

            def stall(handler):
                handler.send_response(200)
                handler.send_header("Content-Length", "100")
                handler.end_headers()
                handler.wfile.write(b"x")
                return release.wait(60)

            web.behaviours[:] = [stall]
            with pytest.raises(StorageTimeoutError):
                store.get_into("k", bytearray(100))
        finally:
            release.set()


def test_no_server():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for url, found in (
        (f"http://127.0.0.1:{port}", r"no connection \(refused\)"),
        ("http://no-such-host.invalid", "no such host"),
    ):
        with open_web(url, max_attempts=2) as store, pytest.raises(StorageTimeoutError, match=f"{found} at {url}"):
            store.get("k")


def test_what_is_no_http(web):
    """A server of another protocol."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    connection.recv(1000)

        thread = threading.Thread(target=greet)
        thread.start()
        with (
            open_web(f"http://127.0.0.1:{listener.getsockname()[1]}", max_attempts=2) as store,
            pytest.raises(StorageError, match="the connection broke"),
        ):
            store.get("k")
        thread.join()


def test_connections_are_kept(web, store):
    for _ in range(5):
        store.get("k")
        store.get_range("k", 3, 9)
        store.head("k")
        with pytest.raises(NotFoundError):
            store.get("none")
    assert web.connections == 1


def test_a_connection_that_the_server_dropped(web, store):
    """Costs a new one and no attempt."""
    store.get("k")
    for round_ in range(1, 4):
        web.drop_connections()
        assert store._engine().get("k").to_pybytes() == DATA
        assert web.connections == 1 + round_


def test_a_server_that_closes_after_each_answer(web, store):
    def close(handler):
        handler.close_connection = True
        handler.answer(200, DATA, {"Connection": "close"})
        return True

    web.behaviours.append(close)
    for _ in range(3):
        assert store.get("k").to_pybytes() == DATA
    assert web.connections == 3


def test_an_answer_belongs_to_its_request(web, store):
    """Early hints are passed over; what comes after an answer is not the next one's."""
    web.objects["/other"] = b"other"
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
    seen = threading.Event()

    def hint(handler):
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")

    def stray_answer(handler):
        handler.answer(200, b"first")
        assert seen.wait(10)
        handler.wfile.write(stray)
        handler.wfile.flush()
        sent.set()

    web.behaviours.append(hint)
    assert store.get("k").to_pybytes() == DATA
    assert store.get("other").to_pybytes() == b"other"
    assert web.connections == 1
    web.behaviours.clear()
    sent = threading.Event()
    web.times(1, stray_answer)
    assert store.get("k").to_pybytes() == b"first"
    seen.set()
    assert sent.wait(10)
    assert store.get("other").to_pybytes() == b"other"
    assert web.connections == 2


@pytest.mark.parametrize("size", [b"-5", b"zz", b""])
def test_a_chunk_without_a_size(web, store, size):
    def chunk(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(size + b"\r\nhello\r\n0\r\n\r\n")
        handler.close_connection = True
        return True

    web.behaviours.append(chunk)
    for verb in (store.get, lambda key: store.get_range(key, 0, 5)):
        with pytest.raises(ShortReadError, match="the answer was cut"):
            verb("k")


def test_redirects(web, store):
    web.objects["/real/k?x=1"] = b"moved"
    with WebServer() as other:
        other.objects["/there"] = b"elsewhere"
        targets = {
            "/relative": "real/k?x=1",
            "/absolute": f"{web.url}/real/k?x=1",
            "/twice": "/relative",
            "/other": f"{other.url}/there",
        }
        web.behaviours.append(
            lambda handler: (
                handler.path in targets and (handler.answer(307, b"moved", {"Location": targets[handler.path]}) or True)
            )
        )
        for key in ("relative", "absolute", "twice"):
            assert store.get(key).to_pybytes() == b"moved"
            assert store.head(key).size == 5
            assert store.get_range(key, 1, 3).to_pybytes() == b"ov"
        assert store.get("other").to_pybytes() == b"elsewhere"
        assert store.get_range("other", 4, 9).to_pybytes() == b"where"
    assert web.connections == 1


def test_redirects_that_are_not_followed(web, store):
    where = {"/loop": "/loop", "/file": "file:///etc/passwd", "/none": None}
    web.behaviours.append(
        lambda handler: (
            handler.answer(302, b"", {"Location": where[handler.path]} if where[handler.path] else {}) or True
        )
    )
    with pytest.raises(StorageError, match="redirected more than 5 times"):
        store.get("loop")
    with pytest.raises(StorageError, match="redirected from http:// to file:"):
        store.get("file")
    with pytest.raises(StorageError, match="HTTP 302 without a Location"):
        store.get("none")
    with pytest.raises(RedirectError):
        Url.parse("https://host/a").redirected("http://host/a")
    for nowhere in ("http://[bad/k", "http://a b/k", "http://host:99999/k", "http://host:0/k"):
        where["/nowhere"] = nowhere
        with pytest.raises(StorageError, match=r"get http://.*/nowhere: redirected to .*, expected an answer"):
            store.get("nowhere")


def test_passwords(web):
    """Sent to the server that they are for, to no other, and shown to nobody."""
    with WebServer() as other:
        other.objects["/k"] = b"other"
        url = web.url.replace("http://", "http://user:pass%20word@")
        with open_web(url) as store:
            assert store.get("k").to_pybytes() == DATA
            assert web.requests[-1][2]["Authorization"] == "Basic dXNlcjpwYXNzIHdvcmQ="
            assert store.uri("k") == f"{url}/k"
            web.behaviours.append(lambda handler: handler.answer(302, b"", {"Location": f"{other.url}/k"}) or True)
            assert store.get("k").to_pybytes() == b"other"
            assert "Authorization" not in other.requests[-1][2]
            web.behaviours[:] = [lambda handler: handler.answer(302, b"", {"Location": "/k"}) or True]
            with pytest.raises(StorageError) as caught:
                store.get("k")
            assert "Authorization" in web.requests[-1][2]
        assert "word" not in f"{caught.value} {store!r} {store._engines}"


def test_keys_are_sent_as_they_were_typed(web, store):
    typed = {
        "a%20b": "/a%20b",
        "a b": "/a%20b",
        "ü": "/%C3%BC",
        "x?list=1&sig=a%2Fb%2B%3D==": "/x?list=1&sig=a%2Fb%2B%3D==",
        "/double": "//double",
        "dir/": "/dir/",
        "a/../b": "/a/../b",
        "x#fragment": "/x",
        "p;v=1,2!$'()*:@[]~": "/p;v=1,2!$'()*:@[]~",
        'q"<>': "/q%22%3C%3E",
    }
    web.behaviours.append(lambda handler: handler.answer(200, handler.requestline.split()[1].encode()) or True)
    for key, sent in typed.items():
        assert store.get(key).to_pybytes() == sent.encode()
        assert store.uri(key) == f"{web.url}/{key}"
        assert Uri.parse(store.uri(key)).key == key
    for bad in ("line\nfeed", "nul\0", "cr\r"):
        with pytest.raises(OptionError):
            store.get(bad)


def test_messages_hide_signatures(web, store):
    url = "none?X-Amz-Credential=AKIA&X-Amz-Date=2026&X-Amz-Signature=cafe&sig=beef&x=1"
    with pytest.raises(NotFoundError) as caught:
        store.get(url)
    shown = "none?X-Amz-Credential=***&X-Amz-Date=2026&X-Amz-Signature=***&sig=***&x=1"
    assert shown in str(caught.value)
    assert caught.value.uri == f"{web.url}/{shown}"


def test_refused_arguments_hide_signatures(web):
    """What is refused before a request, or by what stands above the store, too."""
    web.objects["/k?sig=beef"] = DATA
    url = web.url.replace("http://", "http://user:word@") + "/k?sig=beef"
    with open_web(url) as store:
        calls = [
            lambda: store.get_range("k?sig=beef", 5, 2),
            lambda: store.get_clipped("k?sig=beef", 5, 2),
            lambda: store.get_into("k?sig=beef", b"read-only"),
            lambda: store.put("k?sig=beef", "text"),
            lambda: s3dlio.get_into(url, bytearray(3)),
            lambda: s3dlio.get_into(url, b"read-only"),
            lambda: s3dlio.get_range(url, 0, len(DATA) + 1),
        ]
        for call in calls:
            with pytest.raises((OptionError, ShortReadError)) as caught:
                call()
            assert "user:***@" in str(caught.value)
            assert not any(secret in str(caught.value) for secret in ("beef", "word"))


@pytest.mark.parametrize("verb", ["put", "open_writer", "delete", "copy", "list"])
def test_read_only(web, store, verb):
    verbs = {
        "put": lambda: store.put("k", b"1"),
        "open_writer": lambda: store.open_writer("k"),
        "delete": lambda: store.delete("k"),
        "copy": lambda: store.copy("k", "c"),
        "list": lambda: [*store.list("")],
    }
    with pytest.raises(StorageError, match="cannot be listed" if verb == "list" else "read-only") as caught:
        verbs[verb]()
    assert not caught.value.retryable
    assert web.requests == []
    assert store.atomic_create is False


@pytest.fixture
def kept_stores(monkeypatch):
    """What the function API keeps open, ended with the test."""
    lender = loans.KeptStores()
    monkeypatch.setattr(loans, "_lender", lender)
    yield
    for kept in lender._stores.values():
        kept.store.close()


def test_functions(web, kept_stores):
    """Wherever a URI is taken: by one request where the object is small."""
    web.objects["/k?sig=1"] = DATA
    url = f"{web.url}/k?sig=1"
    assert s3dlio.get(url) == DATA
    assert s3dlio.stat(url)["size"] == len(DATA)
    assert not s3dlio.exists(f"{web.url}/none")
    assert [method for method, _ in asked(web)] == ["GET", "HEAD", "HEAD"]
    with pytest.raises(StorageError, match="read-only"):
        s3dlio.put_bytes(url, b"1")
    with pytest.raises(StorageError, match="cannot be listed"):
        s3dlio.list(web.url)
    with s3dlio.open_store(web.url) as store:
        assert isinstance(store, HttpStore)


def test_filesystem(web, store):
    table = pa.table({"x": range(1000)})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    web.objects["/d/t.parquet"] = sink.getvalue()
    assert pq.read_table(store.path("d/t.parquet"), filesystem=store.filesystem).equals(table)


def test_threads(web, store):
    web.objects |= {f"/{number}": bytes([number]) * 50_000 for number in range(16)}

    def work(number):
        for _ in range(10):
            assert store.get(str(number)).to_pybytes() == bytes([number]) * 50_000
            memory = bytearray(100)
            store.get_into(str(number), memory, 70)
            assert memory == bytes([number]) * 100

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert web.connections <= 16


def test_pickle_and_close(web, store):
    store.get("k")
    other = pickle.loads(pickle.dumps(store))
    assert other.uri("k") == store.uri("k")
    assert other.get("k").to_pybytes() == DATA
    other.close()
    other.close()
    for verb in (other.get, other.head, lambda key: other.put(key, b""), lambda key: [*other.list(key)], other.delete):
        with pytest.raises(ClosedError):
            verb("k")
    assert store.get("k").to_pybytes() == DATA


FORK = """
import os, pickle, sys, threading
store = pickle.load(sys.stdin.buffer)
data = store.get("k").to_pybytes()
going = True
def read_on():
    while going:
        assert store.get("k").to_pybytes() == data
threads = [threading.Thread(target=read_on) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(4):
    child = os.fork()
    if child == 0:
        for _ in range(20):
            assert store.get("k").to_pybytes() == data
        store.close()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
for _ in range(20):
    assert store.get("k").to_pybytes() == data
going = False
for thread in threads:
    thread.join()
store.close()
"""


def test_fork(web, store):
    """Parent and children read on, each on connections of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FORK], input=pickle.dumps(store), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_no_socket_is_left_open(web):
    """Checked by the interpreter: what is dropped open is a ResourceWarning."""
    code = f"""
import gc
from s3dlio.errors import StorageError
from s3dlio.storage import loans
from s3dlio.storage.http.store import HttpStore
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.uri import Uri
with HttpStore(Uri.parse({web.url!r}), StorageOptions(max_attempts=1)) as store:
    for key in ("k", "none"):
        try:
            store.get(key)
        except StorageError:
            pass
gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(certificate, web):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[0])
    with WebServer(context) as secure:
        secure.objects["/k"] = DATA
        yield secure


def test_tls(secure, certificate):
    with open_web(secure.url, ca_bundle=str(certificate[1])) as store:
        assert store.get("k").to_pybytes() == DATA
        assert store.get_range("k", 1, 5).to_pybytes() == DATA[1:5]
        assert secure.connections == 1
        data = pickle.dumps(store)
        done = subprocess.run([sys.executable, "-c", FORK], input=data, capture_output=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr.decode()


def test_a_tls_connection_that_the_server_dropped(secure, certificate):
    """One that was kept costs a new one, and no attempt."""
    with open_web(secure.url, ca_bundle=str(certificate[1]), max_attempts=1) as store:
        for number in range(1, 4):
            assert store.get("k").to_pybytes() == DATA
            assert secure.connections == number
            secure.drop_connections()


@pytest.mark.parametrize("error", [ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError])
def test_all_that_a_dropped_connection_may_say(web, error):
    """When it is noticed while the request is sent; which one comes is a matter of time, and of the library for TLS."""

    class Dropped(http.client.HTTPConnection):
        def request(self, *args, **kwargs):
            raise error

    with open_web(web.url, max_attempts=1) as store:
        store._engine()._connections._idle["http", web.address] = [Dropped(web.address)]
        assert store.get("k").to_pybytes() == DATA
    assert web.connections == 1


def test_a_certificate_that_is_not_trusted(secure):
    with open_web(secure.url) as store, pytest.raises(StorageError, match=r"is not trusted.*ca_bundle") as caught:
        store.get("k")
    assert not caught.value.retryable
    assert secure.requests == []


def test_a_bundle_that_is_none(secure, tmp_path):
    (tmp_path / "empty.pem").write_bytes(b"nothing")
    for name in ("none.pem", "empty.pem"):
        with (
            open_web(secure.url, ca_bundle=str(tmp_path / name)) as store,
            pytest.raises(OptionError, match="ca_bundle"),
        ):
            store.get("k")


def test_proxy(web, monkeypatch):
    """The proxy gets the whole URL; hosts in no_proxy are reached without it."""
    web.objects["http://example.invalid/x?y=1"] = b"by proxy"
    monkeypatch.setenv("http_proxy", web.url.replace("http://", "http://user:word@"))
    with open_web("http://example.invalid") as store:
        assert store.get("x?y=1").to_pybytes() == b"by proxy"
        assert web.requests[-1][2]["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"
        assert web.requests[-1][2]["Host"] == "example.invalid"
        assert store.head("x?y=1").size == 8
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with open_web(web.url) as store:
        assert store.get("k").to_pybytes() == DATA
        assert "Proxy-Authorization" not in web.requests[-1][2]
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
    with open_web("http://example.invalid") as store, pytest.raises(OptionError, match="proxy"):
        store.get("x")


def test_a_tunnel(secure, certificate, monkeypatch):
    """https through a proxy: it sees CONNECT and then nothing but bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = []

        def tunnel():
            client, _ = listener.accept()
            host, port = secure.address.split(":")
            with client, socket.create_connection((host, int(port))) as server:
                seen.append(client.recv(4096))
                client.sendall(b"HTTP/1.1 200 go\r\n\r\n")
                back = threading.Thread(target=pump, args=(server, client))
                back.start()
                pump(client, server)
                back.join()

        thread = threading.Thread(target=tunnel)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with open_web(secure.url, ca_bundle=str(certificate[1])) as store:
            assert store.get("k").to_pybytes() == DATA
            assert store.head("k").size == len(DATA)
        thread.join()
    assert seen[0].startswith(f"CONNECT {secure.address} HTTP/1.".encode())


def pump(source, target):
    while data := source.recv(65536):
        target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "url",
    [
        "http://host:port/k",
        "http://host:0/k",
        "http://:80/k",
        "http://[::1/k",
        "http://ho st/k",
        "http://h\n/k",
        "http://h:99999/",
    ],
)
def test_no_host(url):
    with pytest.raises(OptionError):
        open_web(url)


def test_a_presigned_url(moto_environment):
    """Signed for GET alone: head works by a range of one byte, and the signature arrives as it was made."""
    client = boto3.client(
        "s3",
        endpoint_url=moto_environment.endpoint_url,
        aws_access_key_id=moto_environment.access_key,
        aws_secret_access_key=moto_environment.secret_key,
        region_name=moto_environment.region,
    )
    key = "signed/a b+c%20ü.bin"
    client.put_object(Bucket=moto_environment.container, Key=key, Body=DATA)
    url = client.generate_presigned_url("get_object", {"Bucket": moto_environment.container, "Key": key})
    client.close()
    uri = Uri.parse(url)
    assert str(uri) == url
    with HttpStore(uri, StorageOptions(**QUICK)) as store:
        assert store.get(uri.key).to_pybytes() == DATA
        meta = store.head(uri.key)
        assert (meta.size, meta.etag) == (len(DATA), etag())
        assert store.get_range(uri.key, 5, 77, etag=meta.etag).to_pybytes() == DATA[5:77]
        with pytest.raises(PreconditionError):
            store.get_range(uri.key, 5, 77, etag="another")
        with pytest.raises(ShortReadError):
            store.get_range(uri.key, 5, len(DATA) + 1)
        with pytest.raises(NotFoundError):
            store.get("bucket/none")
