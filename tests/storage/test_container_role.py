import datetime as dt
import json
import pickle

import pytest

from s3dlio.errors import AccessError, OptionError, StorageError
from s3dlio.storage import open_store
from s3dlio.storage.configuration.container_role import ContainerRole

from .recording_server import BODY, RecordingServer

SAID = {
    "AccessKeyId": "ASIACONT",
    "SecretAccessKey": "hidden",
    "Token": "token",
    "Expiration": "2999-01-01T00:00:00Z",
    "RoleArn": "arn",
}


def saying(status=200, **changes):
    return RecordingServer(lambda _: (status, json.dumps({**SAID, **changes}).encode()))


def test_the_token_goes_along(tmp_path):
    with saying() as server:
        url = f"{server.endpoint_url}/v1/credentials"
        found = ContainerRole(url=url, token="first")()
        (tmp_path / "token").write_text("second\n")
        ContainerRole(url=url, token="first", token_file=str(tmp_path / "token"))()
        ContainerRole(url=url)()
    assert [request.headers["Authorization"] for request in server.requests] == ["first", "second", None]
    assert {(request.method, request.target) for request in server.requests} == {("GET", "/v1/credentials")}
    assert (found.access_key_id, found.secret_access_key, found.session_token) == ("ASIACONT", "hidden", "token")
    assert found.expires_at == dt.datetime(2999, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("variable", ["AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])
def test_in_a_store(monkeypatch, clean_environment, tmp_path, backend, variable):
    (tmp_path / "token").write_text("sesame")
    with RecordingServer() as server, saying() as platform:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", platform.endpoint_url)
        monkeypatch.setenv(variable, str(tmp_path / "token") if variable.endswith("FILE") else "sesame")
        with open_store("s3://bucket", backend=backend, endpoint_url=server.endpoint_url) as store:
            assert platform.requests == [], "opening asks nobody"
            assert store.get("key").to_pybytes() == BODY
            store.get("key")
    assert [request.headers["Authorization"] for request in platform.requests] == ["sesame"]
    assert server.keys == {"ASIACONT"}


def test_not_by_a_proxy(monkeypatch, clean_environment):
    """It is on another machine, for which the address is another."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with saying() as server:
        assert ContainerRole(url=server.endpoint_url)().access_key_id == "ASIACONT"


def test_not_by_a_redirect():
    """Wherever it leads, the token is not for there."""
    with saying() as elsewhere:
        answer = (302, elsewhere.endpoint_url.encode())
        with RecordingServer(lambda _: answer) as server, pytest.raises(AccessError, match="HTTP 302"):
            ContainerRole(url=server.endpoint_url, token="hidden")()
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("status", "changes", "error", "found", "retryable"),
    [
        (403, {}, AccessError, "HTTP 403", False),
        (404, {}, AccessError, "HTTP 404", False),
        (500, {}, StorageError, "HTTP 500", True),
        (429, {}, StorageError, "HTTP 429", True),
        (200, {"AccessKeyId": None}, StorageError, "without credentials", None),
        (200, {"Expiration": "soon"}, StorageError, "without credentials", None),
    ],
)
def test_answers_that_are_of_no_use(status, changes, error, found, retryable):
    with saying(status, **changes) as server, pytest.raises(error, match=found) as caught:
        ContainerRole(url=server.endpoint_url)()
    assert "hidden" not in str(caught.value)
    assert caught.value.operation == "get credentials"
    if retryable is not None:
        assert caught.value.retryable is retryable


def test_no_answer_and_no_token(tmp_path):
    with pytest.raises(StorageError, match="no answer") as caught:
        ContainerRole(url="http://127.0.0.1:1")()
    assert caught.value.retryable
    file = tmp_path / "token"
    role = ContainerRole(url="http://127.0.0.1:1", token_file=str(file))
    with pytest.raises(AccessError, match="no token in"):
        role()
    file.write_text("one\r\nX-Other: two")
    with pytest.raises(AccessError, match="several lines"):
        role()
    for token in ("hidden\n", "hidd\u00e9n", "hidden\r\nX-Other: two"):
        with pytest.raises(AccessError, match="odd characters in AWS_CONTAINER_AUTHORIZATION_TOKEN") as caught:
            ContainerRole(url="http://127.0.0.1:1", token=token)()
        assert "hidd" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.1.2.3/x", "http://[::1]:8", "http://[fd00:ec2::23]/v1", "https://far/x"]
)
def test_where_a_token_may_go(url):
    assert ContainerRole(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://far.example/x", "http://169.254.169.254/", "file:///etc/passwd", "far", "ftp://h", "https://",
        "http://[::1", "https://h:port", "http://127.0.0.1:1/a b", "http://127.0.0.1:1/\u2028", "https://me:hidden@h/x",
        "http://me:hidden@far.example/x",
    ],
)  # fmt: skip
def test_where_it_may_not(url):
    with pytest.raises(OptionError, match="AWS_CONTAINER_CREDENTIALS_FULL_URI is ") as caught:
        ContainerRole(url=url)
    assert "hidden" not in str(caught.value)


def test_the_token_is_not_shown_and_goes_to_other_processes():
    role = ContainerRole(url="https://h", token="hidden")
    assert "hidden" not in repr(role)
    assert pickle.loads(pickle.dumps(role)) == role
