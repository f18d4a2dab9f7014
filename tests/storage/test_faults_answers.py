"""Servers that answer, but not with what was asked for: throttling, refusals, certificates, no server at all."""

import re
import time
import traceback

import pytest

from s3dlio.errors import AccessError, NotFoundError, OptionError, StorageError, StorageTimeoutError, ThrottledError

from ..servers.certificates import make_certificate
from ..servers.fault_actions import close_before_answer, lose_answer, status
from ..servers.faults import FaultProxy

BODY = bytes(range(256)) * 16

VERBS = {
    "head": lambda store: store.head("k").size,
    "get": lambda store: store.get("k").to_pybytes(),
    "get_range": lambda store: store.get_range("k", 10, 20).to_pybytes(),
    "get_into": lambda store: store.get_into("k", bytearray(100), 10),
    "put": lambda store: store.put("new", BODY).size,
    "create": lambda store: store.put("new", BODY, mode="create").size,
    "list": lambda store: [key for page in store.list() for key in page.column("key").to_pylist()],
    "delete": lambda store: store.delete("k"),
    "copy": lambda store: store.copy("k", "copied"),
}
"""Each verb on a bucket that holds ``BODY`` under "k"."""

EXPECTED = {
    "head": len(BODY),
    "get": BODY,
    "get_range": BODY[10:20],
    "get_into": None,
    "put": len(BODY),
    "create": len(BODY),
    "list": ["k"],
    "delete": None,
    "copy": None,
}

every_verb = pytest.mark.parametrize("verb", [*VERBS])


@pytest.fixture
def bucket(faulty_anywhere):
    faulty_anywhere.raw.write("k", BODY)
    return faulty_anywhere


def check_effect(bucket, verb):
    if verb in {"put", "create"}:
        assert bucket.raw.read("new") == BODY
    elif verb == "delete":
        assert bucket.raw.read("k") is None
    elif verb == "copy":
        assert bucket.raw.read("copied") == BODY


def check_message(error, bucket, operation="get", key="k"):
    said = str(error)
    assert said.startswith(f"{operation} {bucket.uri(key)}: "), said
    assert re.search(r", expected .*\. [A-Z].*\.$", said), said
    assert "\n" not in said
    assert "Signature=" not in "".join(traceback.format_exception(error))
    assert (error.uri, error.operation) == (bucket.uri(key), operation)


@every_verb
@pytest.mark.parametrize("code", [503, 500, 429, 502])
def test_a_storm_is_ridden_out(bucket, verb, code):
    storm = bucket.proxy.fail(status(code), times=2)
    with bucket.open() as store:
        assert VERBS[verb](store) == EXPECTED[verb]
    assert storm.applied == 2
    check_effect(bucket, verb)


def test_429_with_retry_after(bucket):
    bucket.proxy.fail(status(429, headers={"Retry-After": "1"}), times=2)
    with bucket.open(retry_deadline_s=5) as store:
        assert store.get("k").to_pybytes() == BODY
    assert [seen.status for seen in bucket.proxy.requests][:2] == [429, 429]


@every_verb
def test_a_storm_without_end(bucket, verb):
    """An error, soon after the deadline; the server is asked several times and not all the time."""
    bucket.proxy.fail(status(503), times=None)
    began = time.monotonic()
    with bucket.open(retry_deadline_s=1.0, max_attempts=100) as store, pytest.raises(ThrottledError) as caught:
        VERBS[verb](store)
    assert time.monotonic() - began < 8, "as long as the default deadline"
    assert caught.value.retryable
    assert 2 <= bucket.proxy.count() <= 60
    assert caught.value.attempts == bucket.proxy.count()
    assert "fewer requests" in str(caught.value)
    assert "less concurrency" in str(caught.value)


def test_max_attempts(bucket):
    bucket.proxy.fail(status(503), times=None)
    with bucket.open(max_attempts=3) as store, pytest.raises(ThrottledError) as caught:
        store.get("k")
    assert (bucket.proxy.count(), caught.value.attempts) == (3, 3)


@pytest.mark.parametrize(
    ("code", "error", "expected", "said"),
    [
        (403, "AccessDenied", AccessError, "AWS_ACCESS_KEY_ID|AZURE_STORAGE_KEY|GOOGLE_APPLICATION_CREDENTIALS"),
        (404, "NoSuchBucket", NotFoundError, "bucket|container|no such object"),
        (400, "InvalidRequest", StorageError, "HTTP 400"),
    ],
)
def test_what_no_retry_helps_is_asked_once(bucket, code, error, expected, said):
    bucket.proxy.fail(status(code, error), times=None)
    with bucket.open() as store, pytest.raises(expected, match=said) as caught:
        store.get("k")
    assert not caught.value.retryable
    looks_for_a_directory = bucket.google_by_arrow and code == 404
    assert bucket.proxy.count() == (2 if looks_for_a_directory else 1)


@every_verb
def test_lost_connections_are_ridden_out(bucket, verb):
    bucket.proxy.fail(close_before_answer(), times=2)
    with bucket.open() as store:
        assert VERBS[verb](store) == EXPECTED[verb]
    check_effect(bucket, verb)


def test_a_create_whose_answer_was_lost(bucket):
    """The object is ours: the second attempt's refusal must not be taken for another writer's object."""
    if bucket.backend == "arrow":
        return  # looks and then writes: nothing refuses its second attempt
    bucket.proxy.fail(lose_answer(), method="PUT")
    with bucket.open() as store:
        store.put("new", BODY, mode="create")
    assert bucket.raw.read("new") == BODY


def test_an_expired_token(bucket):
    """Known as such where the server can say so: an answer to HEAD has no body, and arrow begins with one."""
    bucket.proxy.fail(status(403, "ExpiredToken"), times=None)
    with bucket.open() as store:
        with pytest.raises(AccessError, match=r"AWS_SESSION_TOKEN|AZURE_STORAGE_KEY|GOOGLE_APPLICATION") as caught:
            store.get("k")
        check_message(caught.value, bucket)
        assert not caught.value.retryable
        with pytest.raises(AccessError, match=r"ExpiredToken") as caught:
            store.put("k", b"1")
        assert caught.value.expired
        with pytest.raises(AccessError, match=r"ExpiredToken") as caught:
            [*store.list()]
        assert caught.value.expired


def test_denied_is_not_expired(bucket):
    bucket.proxy.fail(status(403), times=None)
    with bucket.open() as store, pytest.raises(AccessError) as caught:
        store.put("k", b"1")
    assert not caught.value.expired


def test_no_such_host(bucket):
    began = time.monotonic()
    with (
        bucket.open(endpoint_url="http://no-such-host.invalid", retry_deadline_s=1) as store,
        pytest.raises(StorageTimeoutError, match=r"no such host at http://no-such-host\.invalid") as caught,
    ):
        store.get("k")
    assert time.monotonic() - began < 10
    check_message(caught.value, bucket)


@pytest.fixture
def tls(faulty_anywhere, tmp_path):
    """The bucket's server behind TLS, and the bundle that makes it trusted."""
    certificate, bundle = make_certificate(tmp_path)
    with FaultProxy(faulty_anywhere.proxy.upstream, certificate=certificate) as proxy:
        yield proxy, str(bundle)


def test_an_untrusted_certificate(bucket, tls):
    proxy, _ = tls
    with bucket.open(endpoint_url=proxy.endpoint_url) as store, pytest.raises(StorageTimeoutError) as caught:
        store.get("k")
    check_message(caught.value, bucket)
    assert f"certificate of {proxy.endpoint_url} is not trusted" in str(caught.value)
    remedy = "Set SSL_CERT_FILE" if bucket.google_by_arrow else "Set ca_bundle (AWS_CA_BUNDLE)"
    assert remedy in str(caught.value)
    assert not caught.value.retryable
    assert proxy.count() == 0


def test_a_certificate_of_the_bundle(bucket, tls):
    proxy, bundle = tls
    if bucket.google_by_arrow:
        with (
            bucket.open(endpoint_url=proxy.endpoint_url, ca_bundle=bundle) as store,
            pytest.raises(OptionError, match=r"SSL_CERT_FILE"),  # which is test_faults_google's
        ):
            store.get("k")
        return
    with bucket.open(endpoint_url=proxy.endpoint_url, ca_bundle=bundle) as store:
        assert store.get("k").to_pybytes() == BODY
        store.put("new", BODY)
        assert [*store.list()]
    check_effect(bucket, "put")
    assert proxy.count("GET") == 2


def test_a_bundle_from_the_environment(faulty, tmp_path, monkeypatch):
    certificate, bundle = make_certificate(tmp_path)
    faulty.raw.write("k", BODY)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with (
        FaultProxy(faulty.proxy.upstream, certificate=certificate) as proxy,
        faulty.open(endpoint_url=proxy.endpoint_url) as store,
    ):
        assert store.get("k").to_pybytes() == BODY


def test_a_bundle_of_another_authority(bucket, tls, tmp_path):
    if bucket.google_by_arrow:
        return  # takes none, see above
    proxy, _ = tls
    _, other = make_certificate(tmp_path, "other")
    with (
        bucket.open(endpoint_url=proxy.endpoint_url, ca_bundle=str(other)) as store,
        pytest.raises(StorageTimeoutError, match=r"not trusted.*ca_bundle"),
    ):
        store.get("k")


def test_tls_spoken_to_a_plain_server(bucket):
    """The commonest cause is https:// written for http://."""
    url = bucket.proxy.endpoint_url.replace("http://", "https://")
    with (
        bucket.open(endpoint_url=url, retry_deadline_s=1) as store,
        pytest.raises(StorageTimeoutError, match=r"no TLS connection"),
    ):
        store.get("k")
