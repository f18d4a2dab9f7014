"""The arrow engine on Google, whose client has a mind of its own.

pyarrow 26 gives no means to set its time limits or its certificates, and no file with random access that asks for its
bytes without Python's lock (``storage.arrow.google``). What the shared fault tests leave out for it stands here.
"""

import gc
import hashlib
import os
import subprocess
import sys
import threading
import time

import pytest

from s3dlio.errors import AccessError, PreconditionError, StorageError, StorageTimeoutError
from s3dlio.storage import open_store

from ..servers.certificates import make_certificate
from ..servers.fault_actions import close_before_answer, delay_first_byte, run_before, status
from ..servers.faults import FaultProxy
from .conftest import make, proxy_of

BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()
SKIPPED = 1 << 16
"""Instead of 8 MiB: where a range begins that a stream reads still."""


@pytest.fixture
def bucket(google_server, monkeypatch, clean_environment):
    with proxy_of(google_server) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        bucket = make(proxy, "arrow")
        bucket.raw.write("k", BODY)
        yield bucket
        bucket.close()


@pytest.fixture
def store(google_server, google_environment, monkeypatch):
    """On the server itself: a proxy in this process could not answer while Python's lock is held."""
    monkeypatch.setattr("s3dlio.storage.arrow.store.SKIPPED_BYTES", SKIPPED)
    with open_store(f"gs://{google_server.new_container()}", backend="arrow") as store:
        yield store


def in_a_process(script, *arguments, **environment):
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("verb", ["get", "get_range", "head"])
def test_a_silent_server_holds_up_nobody_else(bucket, verb):
    """Neither other threads, nor the caller for longer than its limit."""
    rule = bucket.proxy.fail(delay_first_byte(), query="alt=media", times=None)
    other = threading.Thread(target=rule.reached.wait)
    other.start()
    began = time.monotonic()
    with bucket.open(read_timeout_s=0.5, retry_deadline_s=0.1) as store, pytest.raises(StorageTimeoutError):
        store.get_range("k", 5, 10) if verb == "get_range" else getattr(store, verb)("k")
    assert time.monotonic() - began < 10
    other.join()


def test_a_copy_that_is_never_answered(bucket):
    """A listing or a copy shows no progress: an error after 20 times the limit of a read, not after minutes."""
    bucket.proxy.fail(delay_first_byte(), method="POST", path="rewriteTo", times=None)
    began = time.monotonic()
    with bucket.open(read_timeout_s=0.1, retry_deadline_s=0.1) as store, pytest.raises(StorageTimeoutError):
        store.copy("k", "copied")
    assert time.monotonic() - began < 10


def test_the_etag_is_the_native_engines(google_environment):
    """So that what one has listed the other can read, as in a forked process."""
    name = google_environment.new_container()
    with open_store(f"gs://{name}", backend="native") as native, open_store(f"gs://{name}", backend="arrow") as arrow:
        native.put("k", BODY)
        (row,) = [row for page in native.list() for row in page.to_pylist()]
        assert arrow.head("k").etag == row["etag"] == MD5
        assert arrow.get_range("k", 3, 9, etag=row["etag"]).to_pybytes() == BODY[3:9]
        native.put("k", BODY[::-1])
        with pytest.raises(PreconditionError):
            arrow.get_range("k", 3, 9, etag=row["etag"])


ONE_VERB = {
    "head": (lambda store: store.head("k"), ["alt=media", ""]),
    "get": (lambda store: store.get("k"), ["", "alt=media", ""]),
    "get_range": (lambda store: store.get_range("k", 1, 5), ["", "alt=media", ""]),
    "pinned": (lambda store: store.get_range("k", 1, 5, etag=MD5), ["", "alt=media", ""]),
    "get_clipped": (lambda store: store.get_clipped("k", 0, 1 << 20), ["", "alt=media", ""]),
}


@pytest.mark.parametrize("verb", [*ONE_VERB])
def test_requests_of_one_verb(bucket, verb):
    call, expected = ONE_VERB[verb]
    with bucket.open() as store:
        call(store)
    assert [seen.query for seen in bucket.proxy.requests] == expected
    assert bucket.proxy.count("GET") == len(expected)


@pytest.mark.parametrize("start", [0, 1, SKIPPED, SKIPPED + 1])
def test_ranges_near_and_far(store, start):
    store.put("k", BODY)
    etag = store.head("k").etag
    assert store.get_range("k", start, start + 5000, etag=etag).to_pybytes() == BODY[start : start + 5000]
    rest = bytearray(len(BODY) - start)
    store.get_into("k", rest, start)
    assert rest == BODY[start:]
    with pytest.raises(PreconditionError):
        store.get_range("k", start, start + 1, etag="another")


GET_FAR = f"""
import hashlib, sys
import s3dlio.storage.arrow.store
from s3dlio.storage import open_store
s3dlio.storage.arrow.store.SKIPPED_BYTES = {SKIPPED}
with open_store(sys.argv[1], backend="arrow", read_timeout_s=20, retry_deadline_s=20) as store:
    print(hashlib.sha256(store.get_range("k", {SKIPPED} + 1, {SKIPPED} + 5000)).hexdigest())
"""


@pytest.mark.parametrize(
    ("fault", "number"),
    [(status(503), 0), (status(503), 1), (close_before_answer(), 1), (delay_first_byte(0.5), 0)],
    ids=["503-first", "503-second", "closed", "late"],
)
def test_faults_of_a_far_range(bucket, fault, number):
    """It makes two requests for bytes: the first with Python's lock held, the second from where it begins."""
    rule = bucket.proxy.fail(fault, query="alt=media", skip=number)
    expected = BODY[SKIPPED + 1 : SKIPPED + 5000]
    assert in_a_process(GET_FAR, bucket.uri()) == hashlib.sha256(expected).hexdigest()
    assert rule.applied == 1


def test_an_object_replaced_during_a_read(bucket):
    """Between the look and the bytes: read again, and never the bytes of one version with the ETag of the other."""
    other = BODY[::-1]
    bucket.proxy.fail(run_before(lambda: bucket.raw.write("k", other)), query="alt=media")
    with bucket.open() as store:
        assert store.get("k").to_pybytes() == other
        assert store.statistics.retries == 1


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("code", [403, 503])
def test_a_part_that_fails_publishes_nothing(bucket, part, code):
    """Of two, 16 MiB and the rest."""
    bucket.proxy.fail(status(code), method="PUT", skip=part, times=None)
    with bucket.open(max_attempts=1) as store, pytest.raises(StorageError) as caught:
        store.put("new", bytes(20 << 20))
    assert isinstance(caught.value, AccessError) == (code == 403)
    gc.collect()
    assert bucket.raw.read("new") is None


def test_a_bad_gateway_page(bucket):
    """Not Google's JSON, so the client does not tell the status: it is trouble, and repeated."""
    bucket.proxy.fail(status(502, body=b"<html>bad gateway</html>"), times=None)
    with bucket.open(max_attempts=2) as store, pytest.raises(StorageError, match=r"UNAVAILABLE.*retry later") as caught:
        store.get("k")
    assert (caught.value.attempts, bucket.proxy.count()) == (2, 2)


GET = """
import sys
from s3dlio.storage import open_store
with open_store(sys.argv[1], backend="arrow", endpoint_url=sys.argv[2], anonymous=True) as store:
    print(len(store.get("k")))
"""


def test_a_certificate_that_the_environment_trusts(bucket, tmp_path):
    """The means that errors name, as there is no ``ca_bundle``."""
    certificate, bundle = make_certificate(tmp_path)
    with FaultProxy(bucket.proxy.upstream, certificate=certificate) as proxy:
        said = in_a_process(GET, bucket.uri(), proxy.endpoint_url, SSL_CERT_FILE=str(bundle))
    assert said == str(len(BODY))
