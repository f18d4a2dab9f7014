"""The proxy itself, by Python's own client: where this fails, no test through the proxy means anything."""

import contextlib
import http.client
import json
import ssl
import threading
import time

import pytest

from .certificates import make_certificate
from .fault_actions import (
    close_before_answer,
    delay_first_byte,
    lose_answer,
    reset_in_body,
    reset_in_request,
    run_before,
    short_body,
    stall,
    status,
)
from .faults import FaultProxy

SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20250101/us-east-1/s3/aws4_request, Signature=0"}
BODY = bytes(range(256)) * 40


@contextlib.contextmanager
def connected(proxy, make=http.client.HTTPConnection, **options):
    connection = make(proxy.endpoint_url.partition("://")[2], timeout=30, **options)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection, method, path, body=None, **headers):
    connection.request(method, path, body=body, headers={**SIGNED, **headers})
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest.fixture
def path(fault_proxy):
    path = f"/{fault_proxy.new_container()}/some%20key"
    with connected(fault_proxy) as connection:
        assert ask(connection, "PUT", path, BODY)[0] == 200
    fault_proxy.clear()
    return path


def test_passes_on_and_counts(fault_proxy, path):
    with connected(fault_proxy) as connection:
        for method, expected in (("GET", BODY), ("HEAD", b""), ("GET", BODY)):
            assert ask(connection, method, path) == (200, expected)
            kept = connection.sock
        assert ask(connection, "PUT", path, [b"in ", b"chunks"])[0] == 200, "a body of unknown length"
        assert ask(connection, "GET", path + "?a=b")[1] == b"in chunks"
        assert connection.sock is kept is not None, "one connection for all of them"
    assert fault_proxy.requests[:2] == [("GET", path, "", 200), ("HEAD", path, "", 200)]
    assert fault_proxy.requests[4] == ("GET", path, "a=b", 200)
    assert (fault_proxy.count(), fault_proxy.count("GET"), fault_proxy.count("GET", query="a=")) == (5, 3, 1)
    assert fault_proxy.count("GET", "other") == 0


def test_which_requests_fail(fault_proxy, path):
    rule = fault_proxy.fail(status(503, headers={"Retry-After": "7"}), method="GET", path="key$", skip=1, times=2)
    forever = fault_proxy.fail(status(403), method="HEAD", times=None)
    with connected(fault_proxy) as connection:
        assert [ask(connection, "GET", path)[0] for _ in range(5)] == [200, 503, 503, 200, 200]
        assert [ask(connection, "HEAD", path) for _ in range(3)] == [(403, b"")] * 3
        assert (rule.applied, forever.applied) == (2, 3)
        fault_proxy.clear()
        assert ask(connection, "HEAD", path) == (200, b"")
        fault_proxy.fail(status(503, headers={"Retry-After": "7"}))
        connection.request("GET", path, headers=SIGNED)
        answer = connection.getresponse()
        assert answer.getheader("Retry-After") == "7"
        assert b"<Code>SlowDown</Code>" in answer.read()
    assert [seen.status for seen in fault_proxy.requests] == [200, 503]


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (reset_in_body(after=10), ConnectionResetError),
        (short_body(by=10), http.client.IncompleteRead),
        (close_before_answer(), http.client.RemoteDisconnected),
        (close_before_answer(reset=True), ConnectionResetError),
    ],
)
def test_broken_answers(fault_proxy, path, action, error):
    rule = fault_proxy.fail(action)
    with connected(fault_proxy) as connection, pytest.raises(error):
        ask(connection, "GET", path)
    with connected(fault_proxy) as connection:
        assert ask(connection, "GET", path) == (200, BODY)
    assert rule.reached.is_set()


def test_what_the_server_hears(fault_proxy, path):
    with connected(fault_proxy) as connection:
        fault_proxy.fail(close_before_answer())
        with pytest.raises(http.client.RemoteDisconnected):
            ask(connection, "PUT", path, b"never there")
        assert ask(connection, "GET", path)[1] == BODY
        fault_proxy.fail(reset_in_request(after=5), method="PUT")
        with pytest.raises(ConnectionError):
            ask(connection, "PUT", path, b"x" * 2**24)
        connection.close()
        assert ask(connection, "GET", path)[1] == BODY
        fault_proxy.fail(lose_answer())
        with pytest.raises(http.client.RemoteDisconnected):
            ask(connection, "PUT", path, b"done")
        assert ask(connection, "GET", path)[1] == b"done"
        fault_proxy.fail(run_before(lambda: fault_proxy.fail(status(429))), method="GET")
        assert ask(connection, "GET", path)[1] == b"done"
        assert ask(connection, "GET", path)[0] == 429


@pytest.mark.parametrize("action", [stall(after=10), delay_first_byte()])
def test_waiting_until_released(fault_proxy, path, action):
    rule = fault_proxy.fail(action)
    got = []

    def read():
        with connected(fault_proxy) as connection:
            got.append(ask(connection, "GET", path))

    thread = threading.Thread(target=read)
    thread.start()
    assert rule.reached.wait(30)
    assert not got
    rule.release()
    thread.join()
    assert got == [(200, BODY)]


def test_a_delay_ends_by_itself(fault_proxy, path):
    fault_proxy.fail(delay_first_byte(0.01))
    with connected(fault_proxy) as connection:
        assert ask(connection, "GET", path) == (200, BODY)


def test_stopping_does_not_wait_for_a_stall(moto_server):
    with FaultProxy(moto_server) as proxy:
        rule = proxy.fail(stall(), times=None)
        with connected(proxy) as connection:
            connection.request("GET", "/bucket", headers=SIGNED)
            assert rule.reached.wait(30)


def test_an_error_of_the_proxy_is_not_swallowed(moto_server):
    proxy = FaultProxy(moto_server)
    with pytest.raises(ZeroDivisionError), proxy:
        proxy.fail(run_before(lambda: 1 / 0))
        with connected(proxy) as connection, pytest.raises(ConnectionError):
            ask(connection, "GET", "/bucket")


def test_tls_at_a_plain_proxy(fault_proxy):
    with (
        connected(fault_proxy, http.client.HTTPSConnection) as connection,
        pytest.raises(ssl.SSLError, match="VERSION"),
    ):
        ask(connection, "GET", "/bucket")


def test_tls(moto_server, tmp_path):
    certificate, bundle = make_certificate(tmp_path)
    with FaultProxy(moto_server, certificate=certificate) as proxy:
        assert proxy.environment["AWS_ENDPOINT_URL"] == proxy.endpoint_url
        assert proxy.endpoint_url.startswith("https://")
        trusting = ssl.create_default_context(cafile=bundle)
        with connected(proxy, http.client.HTTPSConnection, context=trusting) as connection:
            assert ask(connection, "GET", "/bucket")[0] == 200
        with (
            connected(proxy, http.client.HTTPSConnection) as connection,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            ask(connection, "GET", "/bucket")


def test_an_error_in_the_words_of_the_interface(google_server):
    """XML, or JSON where Google's paths say so; and an answer that comes as late as over a network."""
    with FaultProxy(google_server, latency_s=0.05) as proxy, connected(proxy) as connection:
        proxy.fail(status(403, "forbidden"), times=2)
        assert b"<Code>forbidden</Code>" in ask(connection, "GET", "/bucket/key")[1]
        began = time.monotonic()
        said = json.loads(ask(connection, "GET", "/storage/v1/b/bucket/o/key")[1])["error"]
        assert time.monotonic() - began >= 0.05
    assert (said["code"], said["errors"][0]["reason"]) == (403, "forbidden")
