import datetime as dt
import socket
import threading
from urllib.parse import parse_qs

import pytest

from s3dlio.errors import AccessError, OptionError, StorageError
from s3dlio.storage.configuration.web_identity import WebIdentity

from ..servers.certificates import make_certificate
from .recording_server import RecordingServer

# In the form that AWS's own documentation shows.
ANSWER = b"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult><Credentials>
    <SessionToken>the token</SessionToken><SecretAccessKey>the secret</SecretAccessKey>
    <Expiration>2999-10-24T23:00:23Z</Expiration><AccessKeyId>ASIAKEY</AccessKeyId>
  </Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


@pytest.fixture
def identity(tmp_path):
    (tmp_path / "token").write_text("first\n")

    def make(url, **fields):
        return WebIdentity(
            token_file=str(tmp_path / "token"), role_arn="arn:role", session_name="job", endpoint_url=url, **fields
        )

    return make


def test_every_call_exchanges_the_token_that_is_there(identity, tmp_path):
    with RecordingServer(lambda _: (200, ANSWER)) as server:
        found = identity(server.endpoint_url)()
        (tmp_path / "token").write_text("second")
        identity(server.endpoint_url)()
    assert (found.access_key_id, found.secret_access_key, found.session_token) == ("ASIAKEY", "the secret", "the token")
    assert found.expires_at == dt.datetime(2999, 10, 24, 23, 0, 23, tzinfo=dt.UTC)
    forms = [parse_qs(request.body.decode()) for request in server.requests]
    assert forms[0] == {
        "Action": ["AssumeRoleWithWebIdentity"],
        "Version": ["2011-06-15"],
        "RoleArn": ["arn:role"],
        "RoleSessionName": ["job"],
        "WebIdentityToken": ["first"],
    }
    assert forms[1]["WebIdentityToken"] == ["second"]
    assert {request.method for request in server.requests} == {"POST"}
    assert not any(request.headers["Authorization"] for request in server.requests)


@pytest.mark.parametrize(
    ("status", "body", "error", "found", "retryable"),
    [
        (403, b"<E><Code>AccessDenied</Code></E>", AccessError, "HTTP 403 AccessDenied", False),
        (400, b"not xml", AccessError, "HTTP 400, expected", False),
        (503, b"", StorageError, "HTTP 503, expected", True),
        (200, b"<empty/>", StorageError, "an answer without credentials", False),
        (200, b"not xml", StorageError, "an answer without credentials", False),
        (200, ANSWER.replace(b"ASIAKEY", b""), StorageError, "an answer without credentials", False),
        (200, ANSWER.replace(b"2999", b"soon"), StorageError, "an answer without credentials", False),
    ],
)
def test_answers_that_are_of_no_use(identity, status, body, error, found, retryable):
    with RecordingServer(lambda _: (status, body)) as server, pytest.raises(error, match=found) as caught:
        identity(server.endpoint_url)()
    assert type(caught.value) is error
    assert caught.value.retryable is retryable
    assert "arn:role" in str(caught.value)
    assert "first" not in str(caught.value)


@pytest.mark.parametrize(("status", "code"), [(400, "Throttling"), (400, "IDPCommunicationError"), (429, "x")])
def test_refusals_that_pass(identity, status, code):
    body = f"<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>".encode()
    with RecordingServer(lambda _: (status, body)) as server, pytest.raises(StorageError) as caught:
        identity(server.endpoint_url)()
    assert caught.value.retryable


def test_an_answer_that_is_no_http(identity):
    def speak():
        connection = listener.accept()[0]
        connection.recv(65536)
        connection.sendall(b"SSH-2.0-x\r\n\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(StorageError, match="no answer") as caught:
            identity(f"http://127.0.0.1:{listener.getsockname()[1]}")()
        thread.join()
    assert caught.value.retryable


def test_nobody_answers(identity):
    with pytest.raises(StorageError, match="no answer") as caught:
        identity("http://127.0.0.1:1")()
    assert caught.value.retryable


def test_the_bundle_is_for_this_request_too(identity, tmp_path):
    certificate, bundle = make_certificate(tmp_path)
    with RecordingServer(lambda _: (200, ANSWER), certificate=certificate) as server:
        assert identity(server.endpoint_url, ca_bundle=str(bundle))().access_key_id == "ASIAKEY"
        with pytest.raises(StorageError, match="certificate"):
            identity(server.endpoint_url)()
    with pytest.raises(OptionError, match="AWS_CA_BUNDLE") as caught:
        identity("https://127.0.0.1:1", ca_bundle=str(tmp_path / "none"))()
    assert caught.value.field == "ca_bundle"


@pytest.mark.parametrize("url", ["sts.example", "ftp://h", "http://[h", "http://h:port", "http://me:hidden@h"])
def test_an_address_that_is_none(url):
    with pytest.raises(OptionError, match="AWS_ENDPOINT_URL_STS is ") as caught:
        WebIdentity(token_file="/t", role_arn="r", session_name="s", endpoint_url=url)
    assert "hidden" not in str(caught.value)
