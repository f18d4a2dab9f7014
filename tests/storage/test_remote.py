"""What only ``RemoteStore`` does: the engine at each call, and answers of servers that are in trouble."""

import contextlib
import datetime as dt
import http.server
import pickle
import random
import socket
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

from s3dlio.errors import (
    AccessError,
    ClosedError,
    ExistsError,
    NotFoundError,
    OptionError,
    PreconditionError,
    ShortReadError,
    StorageError,
    StorageTimeoutError,
    ThrottledError,
)
from s3dlio.storage import NativeStore, RemoteStore, StorageOptions, open_store
from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.requests import remote
from s3dlio.uri import Uri

KEYS = {"access_key_id": "id", "secret_access_key": "hidden"}
BACKENDS = pytest.mark.parametrize("backend", ["native", "arrow"])


class Server(http.server.ThreadingHTTPServer):
    """Answers every request by ``answer(handler)`` and remembers the requests."""

    daemon_threads = True
    request_queue_size = 128  # with 5, connections that come at once wait a second

    def __init__(self, answer):
        self.requests = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # or a client that asks whether to go on waits a second for the answer

            def do(self):
                server.requests.append((self.command, self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do  # noqa: N815 - http.server's names

            def log_message(self, *args):
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request, client_address):
        pass  # clients that give up break the pipe

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextlib.contextmanager
def serving(answer):
    with Server(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def status(code, body=b"", **headers):
    def answer(handler):
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def open_at(url, backend, **overrides):
    options = {"max_attempts": 1, "read_timeout_s": 1.0, **KEYS, **overrides}
    return open_store("s3://bucket/any", backend=backend, endpoint_url=url, **options)


@BACKENDS
@pytest.mark.parametrize(
    ("code", "name", "expected"),
    [(403, "AccessDenied", AccessError), (503, "SlowDown", ThrottledError), (500, "InternalError", StorageError)],
)
def test_errors_of_the_server(backend, code, name, expected):
    body = f"<?xml version='1.0'?><Error><Code>{name}</Code><Message>no</Message></Error>".encode()
    with serving(status(code, body)) as server, open_at(server.url, backend) as store:
        for verb in (
            store.head,
            store.get,
            store.delete,
            lambda key: store.put(key, b"1"),
            lambda key: [*store.list(key)],
        ):
            with pytest.raises(expected) as caught:
                verb("k")
            assert "s3://bucket/k" in str(caught.value)
            assert "hidden" not in str(caught.value)
            assert "\n" not in str(caught.value)


@BACKENDS
def test_nobody_listens(backend):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    store = open_store("s3://bucket", backend=backend, endpoint_url=f"http://127.0.0.1:{port}", **KEYS)
    with store, pytest.raises(StorageTimeoutError, match=rf"refused.*127.0.0.1:{port}.*AWS_ENDPOINT_URL") as caught:
        store.get("k")
    assert caught.value.retryable
    assert time.monotonic() - began < 10


@BACKENDS
def test_no_such_host(backend):
    began = time.monotonic()
    store = open_store("s3://bucket", backend=backend, endpoint_url="http://no-such-host.invalid", **KEYS)
    with store, pytest.raises(StorageTimeoutError, match=r"no such host at http://no-such-host.invalid"):
        store.get("k")
    assert time.monotonic() - began < 20


@BACKENDS
def test_a_server_that_says_nothing(backend):
    """The read timeout ends it; pyarrow rounds it up to whole seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with open_at(url, backend, read_timeout_s=0.2) as store, pytest.raises(StorageTimeoutError, match=r"in time"):
            store.get("k")


@BACKENDS
def test_slow_but_alive_is_not_a_timeout(backend):
    """A whole request may take longer than the read timeout, as long as bytes keep coming."""
    pause = threading.Event()

    def trickle(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "8")
        handler.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
        handler.send_header("ETag", '"x"')
        handler.end_headers()
        for _ in range(8 if handler.command == "GET" else 0):
            handler.wfile.write(b"1")
            handler.wfile.flush()
            pause.wait(0.2)

    with serving(trickle) as server, open_at(server.url, backend, read_timeout_s=1) as store:
        assert store.get("k").to_pybytes() == b"1" * 8


@BACKENDS
def test_a_body_that_breaks_off(backend):
    """Fewer bytes than announced are an error, never data."""

    def cut(handler):
        handler.send_response(206 if handler.headers.get("Range") else 200)
        handler.send_header("Content-Length", "100")
        handler.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
        handler.send_header("ETag", '"x"')
        if handler.headers.get("Range"):
            handler.send_header("Content-Range", "bytes 0-99/100")
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(b"only this")
        handler.close_connection = True

    with serving(cut) as server, open_at(server.url, backend) as store:
        with pytest.raises((ShortReadError, StorageError)):
            store.get("k")
        with pytest.raises((ShortReadError, StorageError)):
            store.get_range("k", 0, 100)
        with pytest.raises((ShortReadError, StorageError)):
            store.get_into("k", bytearray(100))


OBJECT = {"Last_Modified": "Sat, 21 Nov 2026 00:00:00 GMT", "ETag": '"x"'}


def serve_object(handler, data=b"at last", etag='"x"'):
    """GET of the whole or a range, HEAD, PUT."""
    if handler.command not in {"GET", "HEAD"}:
        return status(200, b"", ETag=etag)(handler)
    wanted = handler.headers.get("Range")
    body, headers = data, {}
    if wanted:
        first, last = wanted.removeprefix("bytes=").split("-")
        last = min(int(last), len(data) - 1)
        body = data[int(first) : last + 1]
        headers["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
    handler.send_response(206 if wanted else 200)
    for name, value in {**OBJECT, "ETag": etag, **headers, "Content_Length": len(body)}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(body)
    return None


def in_turn(*answers):
    """These answers in turn; the last one again and again."""
    left = list(answers)

    def answer(handler):
        (left.pop(0) if len(left) > 1 else left[0])(handler)

    return answer


def cut_in_body(handler):
    """Says 7 bytes, sends 3 and breaks off: the next attempt must not see the beginning twice."""
    handler.send_response(206 if handler.headers.get("Range") else 200)
    for name, value in {**OBJECT, "Content_Length": 7, "Content_Range": "bytes 0-6/7"}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    if handler.command == "GET":
        handler.wfile.write(b"at ")
    handler.close_connection = True


def break_off(handler):
    handler.close_connection = True  # no answer at all


SLOW_DOWN = status(503, b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>no</Message></Error>")
TOO_MANY = status(429)


@BACKENDS
@pytest.mark.parametrize("trouble", [SLOW_DOWN, TOO_MANY, status(500), cut_in_body, break_off])
def test_trouble_that_passes(backend, trouble):
    """Two bad answers, then a good one: the verb works, and the statistics tell."""
    with (
        serving(in_turn(trouble, trouble, serve_object)) as server,
        open_at(server.url, backend, max_attempts=6) as store,
    ):
        assert store.get("k").to_pybytes() == b"at last"
        assert store.get_range("k", 3, 7).to_pybytes() == b"last"
        counted = store.statistics
        # to the HEAD of the arrow engine, which has no body to cut, the first answer is a good one
        assert counted.retries == (1 if backend == "arrow" and trouble is cut_in_body else 2)
        assert counted.requests == counted.retries + 2
        assert counted.throttled == (2 if trouble in {SLOW_DOWN, TOO_MANY} else 0)


@BACKENDS
def test_trouble_that_stays_says_how_often(backend):
    with (
        serving(SLOW_DOWN) as server,
        open_at(server.url, backend, max_attempts=3) as store,
        pytest.raises(ThrottledError, match=r"Gave up after 3 attempts in \d") as caught,
    ):
        store.get("k")
    assert caught.value.attempts == 3
    assert len(server.requests) == 3


@BACKENDS
def test_a_lost_answer_to_a_create(backend):
    """The server stores it and the connection breaks: no ExistsError over the own object."""
    stored = {}

    def answer(handler):
        if handler.command == "PUT" and not stored:
            stored["k"] = True
            break_off(handler)
        elif handler.command == "PUT":
            status(412)(handler)
        elif stored:
            serve_object(handler, data=b"mine")
        elif handler.command == "HEAD":
            status(404)(handler)
        else:
            body = b"<?xml version='1.0'?><ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>"
            status(200, body)(handler)

    with serving(answer) as server, open_at(server.url, backend, max_attempts=6) as store:
        assert store.put("k", b"mine", mode="create").size == 4
        stored.clear()
        with pytest.raises(ExistsError):
            store.put("k", b"other", mode="create")


@BACKENDS
def test_an_object_replaced_between_two_ranges(backend):
    version = ["x"]

    def answer(handler):
        if handler.headers.get("If-Match", f'"{version[0]}"') != f'"{version[0]}"':
            status(412)(handler)
        else:
            serve_object(handler, data=b"1234" * (1 + ord(version[0]) - ord("x")), etag=f'"{version[0]}"')

    with serving(answer) as server, open_at(server.url, backend) as store:
        assert store.get_range("k", 0, 2, etag="x").to_pybytes() == b"12"
        version[0] = "y"
        with pytest.raises(PreconditionError):
            store.get_range("k", 2, 4, etag="x")
        with pytest.raises(PreconditionError):
            store.get_into("k", bytearray(2), 2, etag="x")
        assert store.get_range("k", 2, 4, etag="y").to_pybytes() == b"34"


def test_arrow_notices_what_was_replaced_between_its_own_requests():
    """HEAD says version x, GET sends y: a read that is pinned to x must not deliver it."""
    versions = in_turn(
        lambda handler: serve_object(handler, etag='"x"'),
        lambda handler: serve_object(handler, data=b"another", etag='"y"'),
    )
    with serving(versions) as server, open_at(server.url, "arrow") as store:
        with pytest.raises(PreconditionError):
            store.get_range("k", 0, 7, etag="x")
        assert [request[0] for request in server.requests] == ["HEAD", "GET", "HEAD"]
    with serving(in_turn(serve_object)) as server, open_at(server.url, "arrow") as store:
        buffer = bytearray(7)
        store.get_into("k", buffer, etag="x")
        assert buffer == b"at last"


@BACKENDS
def test_credentials_that_expire_are_renewed(backend):
    """Once for all threads; a HEAD, whose answer has no body, is taken for it, too."""
    expired = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>old</Message></Error>"

    def answer(handler):
        if "Credential=new/" in handler.headers["Authorization"]:
            serve_object(handler)
        else:
            status(400, expired)(handler)

    asked = []

    def provider():
        asked.append(1)
        return Credentials(access_key_id="new", secret_access_key="s")

    with (
        serving(answer) as server,
        open_at(server.url, backend, access_key_id="old", credential_provider=provider) as store,
    ):
        with ThreadPoolExecutor(8) as pool:
            assert {data.to_pybytes() for data in pool.map(store.get, ["k"] * 32)} == {b"at last"}
        assert asked == [1]
        assert store.options.access_key_id == "new"


def test_many_refused_at_once_ask_once_for_what_is_not_there():
    """A provider may be slow: those who waited for its answer take it for theirs."""
    expired = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>old</Message></Error>"
    refused = threading.Barrier(8)
    asked = []

    def answer(handler):
        refused.wait(30)
        status(400, expired)(handler)

    def provider():
        asked.append(1)
        waiting.wait(0.5)  # nobody sets it: the others come meanwhile

    waiting = threading.Event()
    with (
        serving(answer) as server,
        open_at(server.url, "native", credential_provider=provider) as store,
        ThreadPoolExecutor(8) as pool,
    ):
        errors = [one.exception(30) for one in [pool.submit(store.get, "k") for _ in range(8)]]
    assert {type(error) for error in errors} == {AccessError}
    assert asked == [1]


@pytest.mark.parametrize("failure", [AccessError("no"), StorageError("busy", retryable=True), None])
def test_credentials_are_used_to_their_end(failure):
    """Nobody fails because the provider has no new ones a minute before, and nobody asks at every request."""
    asked = []

    def provider():
        asked.append(1)
        if failure is not None:
            raise failure

    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    with (
        serving(serve_object) as server,
        open_at(server.url, "native", credential_provider=provider, credentials_expire_at=soon) as store,
        ThreadPoolExecutor(8) as pool,
    ):
        assert {data.to_pybytes() for data in pool.map(store.get, ["k"] * 32)} == {b"at last"}
    assert len(asked) <= 3, "the store, and the callback of the client"


def test_a_provider_in_trouble_is_asked_again(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.0)
    answers = [StorageError("busy", retryable=True), Credentials(access_key_id="new", secret_access_key="s")]

    def provider():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    with (
        serving(serve_object) as server,
        open_at(
            server.url, "native", credential_provider=provider, credentials_expire_at=past, max_attempts=2
        ) as store,
    ):
        assert store.get("k").to_pybytes() == b"at last"
        assert store.options.access_key_id == "new"


@BACKENDS
def test_credentials_that_cannot_be_renewed(backend):
    body = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>old</Message></Error>"
    with serving(status(400, body)) as server, open_at(server.url, backend) as store:
        with pytest.raises(AccessError, match="Check AWS_ACCESS_KEY_ID") as caught:
            store.put("k", b"1")
        assert not caught.value.retryable
        assert caught.value.attempts == 1


@BACKENDS
def test_threads_that_come_first_share_one_engine(backend, monkeypatch):
    """pyarrow would wait with a second S3 filesystem until no request of the first is under way, be it stuck."""
    made, first, make = [], threading.Event(), remote._ENGINES[backend]

    def slowly(*arguments):
        made.append(arguments)
        first.wait(0.2 if len(made) == 1 else 0)
        return make(*arguments)

    monkeypatch.setitem(remote._ENGINES, backend, slowly)
    ok = status(200, b"12345", Last_Modified="Sat, 21 Nov 2026 00:00:00 GMT", ETag='"e"')
    with serving(ok) as server, open_at(server.url, backend) as store, ThreadPoolExecutor(8) as pool:
        assert [data.to_pybytes() for data in pool.map(store.get, ["k"] * 8)] == [b"12345"] * 8
    assert len(made) == 1


@BACKENDS
def test_close_while_requests_are_under_way(backend):
    """One that is answered ends well; one that waits to be repeated ends by ClosedError, at once."""
    refused, answered = threading.Event(), threading.Event()

    def answer(handler):
        if handler.path.endswith("slow"):
            answered.wait(30)
            serve_object(handler)
        else:
            SLOW_DOWN(handler)
            refused.set()

    with serving(answer) as server, ThreadPoolExecutor(9) as pool:
        store = open_at(server.url, backend, max_attempts=1000, retry_deadline_s=1000, read_timeout_s=30)
        slow = pool.submit(store.get, "slow")
        many = [pool.submit(store.get, "k") for _ in range(8)]
        assert refused.wait(30)
        store.close()
        for one in many:
            assert isinstance(one.exception(30), ClosedError)
        answered.set()
        assert slow.exception(30) is None or isinstance(slow.exception(), ClosedError)


def test_requests_made():
    """One request a verb on native: what the protocol promises."""
    ok = status(200, b"12345", Last_Modified="Sat, 21 Nov 2026 00:00:00 GMT", ETag='"e"')
    with serving(ok) as server, open_at(server.url, "native") as store:
        assert server.requests == [], "opening makes no request"
        store.get("k")
        store.head("k")
        store.put("k", b"1")
        store.put("k", b"1", mode="create")
        assert [request[0] for request in server.requests] == ["GET", "HEAD", "PUT", "PUT"]
        assert server.requests[3][2]["if-none-match"] == "*"


def test_a_foreign_session_token_stays_out(monkeypatch):
    """Explicit keys are not completed by the environment's token, which belongs to others."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-other-keys")
    ok = status(200, b"", Last_Modified="Sat, 21 Nov 2026 00:00:00 GMT", ETag='"e"')
    options = StorageOptions(backend="native", **KEYS)
    with serving(ok) as server, open_store("s3://b", storage_options=options, endpoint_url=server.url) as store:
        store.head("k")
        assert "x-amz-security-token" not in server.requests[0][2]
    with serving(ok) as server, open_store("s3://b", endpoint_url=server.url, session_token="mine", **KEYS) as store:
        store.head("k")
        assert server.requests[0][2]["x-amz-security-token"] == "mine"


@BACKENDS
def test_anonymous(backend, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    ok = status(200, b"", Last_Modified="Sat, 21 Nov 2026 00:00:00 GMT", ETag='"e"')
    with serving(ok) as server, open_store("s3://b", backend=backend, endpoint_url=server.url, anonymous=True) as store:
        store.head("k")
        assert "authorization" not in {name.lower() for name in server.requests[0][2]}


@BACKENDS
def test_sas_token_never_shows(backend):
    body = b"<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code></Error>"
    with (
        serving(status(403, body)) as server,
        open_store(
            "az://box",
            account_name="acc",
            sas_token="?sv=1&sig=s3cr3t",
            endpoint_url=f"{server.url}/acc",
            backend=backend,
            max_attempts=1,
        ) as store,
        pytest.raises(AccessError) as caught,
    ):
        store.get("k")
    assert "sig=s3cr3t" in server.requests[0][1]
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))


def test_checksums_only_where_they_are_asked_for(monkeypatch):
    """Servers before trailing checksums refuse them with HTTP 411, among them Ceph 16."""
    ok = status(200, b"", ETag='"e"')
    with serving(ok) as server, open_at(server.url, "arrow") as store:
        store.put("k", b"12345")
        headers = {name.lower(): value for name, value in server.requests[-1][2].items()}
        assert headers["content-length"] == "5"
        assert "content-encoding" not in headers
        assert "x-amz-trailer" not in headers
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    with serving(ok) as server, open_at(server.url, "arrow") as store:
        store.put("k", b"12345")
        assert "x-amz-trailer" in {name.lower() for name in server.requests[-1][2]}, "the user's choice wins"


def test_opening_is_cheap_and_options_travel():
    store = open_store("s3://bucket/ignored", endpoint_url="http://127.0.0.1:1", region="r", **KEYS)
    assert isinstance(store, RemoteStore)
    assert store._engines == {}
    other = pickle.loads(pickle.dumps(store))
    assert other.options == store.options
    assert other.uri("k") == "s3://bucket/k"
    assert other.path("k") == "bucket/k"
    assert "hidden" not in repr(other)
    assert (other.backend, other.atomic_create) == ("native", True)
    assert (open_store("s3://b", backend="arrow").backend, open_store("s3://b", backend="arrow").atomic_create) == (
        "arrow",
        False,
    )


def test_addressing():
    """The bucket in the path at a server of one's own, in the host name at AWS, and as the user says."""

    def shown(**overrides):
        store = open_store("s3://bucket", **KEYS, **overrides)
        config = store._engine("native")._single.config
        return config.get("endpoint"), config["virtual_hosted_style_request"]

    assert shown(endpoint_url="http://h:1/") == ("http://h:1", "false")
    assert shown() == ("https://bucket.s3.us-east-1.amazonaws.com", "true")
    assert shown(addressing="path") == ("https://s3.us-east-1.amazonaws.com", "false")
    assert shown(endpoint_url="https://h", addressing="virtual") == ("https://bucket.h", "true")


def test_options_that_an_engine_refuses():
    with pytest.raises(OptionError, match=r"no storage account.*AZURE_STORAGE_ACCOUNT"):
        open_store("az://box", backend="arrow").head("k")
    with pytest.raises(OptionError):
        NativeStore(Uri.parse("az://box"), StorageOptions())


def test_no_credentials_for_azure_names_the_variables():
    body = b"<?xml version='1.0'?><Error><Code>NoAuthenticationInformation</Code></Error>"
    with serving(status(401, body)) as server:
        options = {"account_name": "acc", "endpoint_url": f"{server.url}/acc", "anonymous": True, "backend": "native"}
        with open_store("az://box", **options) as store, pytest.raises(AccessError, match=r"AZURE_STORAGE_KEY"):
            store.get("k")


@BACKENDS
def test_a_listing_without_its_container(backend):
    body = b"<?xml version='1.0'?><Error><Code>NoSuchBucket</Code><Message>no</Message></Error>"
    with (
        serving(status(404, body)) as server,
        open_at(server.url, backend) as store,
        pytest.raises(NotFoundError, match=r"bucket 'bucket' does not exist"),
    ):
        [*store.list()]


FORK = """
import os, sys, warnings
warnings.simplefilter("always")
from s3dlio.errors import ClosedError, StorageError
from s3dlio.storage import ForkWarning, NativeStore, StorageOptions, open_store
from s3dlio.storage.requests import inheritance
from s3dlio.uri import Uri
def check(condition, said):
    if not condition:
        sys.stderr.write(said + "\\n"); os._exit(3)
def forked(child):
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException as error:
            check(False, repr(error))
        os._exit(0)
    return os.waitpid(pid, 0)[1]
keys = dict(access_key_id="i", secret_access_key="s", max_attempts=1)
dead = dict(endpoint_url="http://127.0.0.1:1", **keys)
store, other = open_store("s3://b", **dead), open_store("s3://b2", **dead)
def attempt(one):
    try:
        one.head("k")
    except StorageError as error:
        return str(error)
"""


def run_script(body):
    done = subprocess.run([sys.executable, "-c", FORK + body], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_fork_before_the_first_request():
    said = run_script("""
def child():
    check(store.backend == "native", "a child of a parent without requests uses what was asked for")
    check("refused" in attempt(store), "native works")
check(forked(child) == 0, "child")
check(store.backend == "native", "parent")
check("refused" in attempt(store), "the parent is not touched by its child")
""")
    assert said == ""


def test_fork_after_a_request_warns_once():
    said = run_script("""
check("refused" in attempt(store), "parent")
def child():
    check((store.backend, other.backend) == ("arrow", "arrow"), "engine")
    check(not store.atomic_create, "what the engine can do is told truly")
    for one in (store, other, store, open_store("s3://b3", backend="native", **dead)):
        check("refused" in attempt(one), "arrow answers")
    def grandchild():
        check("refused" in attempt(store), "and so in a grandchild")
    check(forked(grandchild) == 0, "grandchild")
for _ in range(2):
    check(forked(child) == 0, "child")
check(store.backend == "native", "parent")
""")
    assert said.count("ForkWarning") == 4, said  # two children and a grandchild of each
    assert "'spawn'" in said


def test_the_engine_itself_refuses_to_hang():
    run_script("""
native = NativeStore(Uri.parse("s3://b"), StorageOptions(**dead))
listing = native.list()
check("refused" in attempt(native), "parent")
writer = native.open_writer("k")
def child():
    try:
        writer.write(b"1")
    except ClosedError as error:
        check("forked" in str(error), str(error))
    else:
        check(False, "no error of the writer")
    for call in (lambda: native.head("k"), lambda: next(listing),
                 lambda: NativeStore(Uri.parse("s3://c"), StorageOptions(**dead)).head("k")):
        try:
            call()
        except StorageError as error:
            check("would hang" in str(error), str(error))
        else:
            check(False, "no error")
check(forked(child) == 0, "child")
""")


def test_azure_connections_are_not_shared():
    """pyarrow has one pool of Azure connections for the process; parent and child would answer each other."""
    said = run_script("""
account = dict(account_name="a", account_key="a2V5", endpoint_url="http://127.0.0.1:1/a", max_attempts=1)
azure = open_store("az://box", backend="arrow", **account)
s3 = open_store("s3://b", backend="arrow", **dead)
inheritance.claim("azure")
def child():
    check(azure.backend == "native", "the other engine")
    check(s3.backend == "arrow", "S3 has pools of its own")
    check("refused" in attempt(azure), "native answers")
check(forked(child) == 0, "child")
inheritance.claim("native")
def lost_child():
    check("'spawn'" in attempt(azure), "neither engine works: say so")
check(forked(lost_child) == 0, "child that lost both")
""")
    assert said.count("ForkWarning") == 1, said
