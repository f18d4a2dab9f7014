"""Google's variables and options, seen from the server."""

import base64
import json

import pytest

from s3dlio.errors import OptionError, StorageError
from s3dlio.storage import StorageOptions, open_store
from s3dlio.storage.arrow.client import make_filesystem
from s3dlio.uri import Uri

from .recording_server import RecordingServer


@pytest.fixture
def server():
    with RecordingServer() as running:
        yield running


@pytest.fixture
def environ(monkeypatch, clean_environment):
    """Set variables: environ(NAME="value")."""
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def test_google_emulator(backend, google_environment, environ):
    for host in (google_environment.endpoint_url, google_environment.endpoint_url.removeprefix("http://")):
        environ(STORAGE_EMULATOR_HOST=host)
        with open_store("gs://bucket", backend=backend) as store:
            store.put("emulated", b"some bytes")
            assert store.get("emulated").to_pybytes() == b"some bytes"
            store.delete("emulated")


@pytest.fixture(scope="module")
def service_account(tmp_path_factory):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    file = tmp_path_factory.mktemp("google") / "account.json"
    content = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "id",
        "private_key": pem,
        "client_email": "reader@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:1/token",
    }
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize("by", ["variable", "option"])
def test_google_service_account(backend, server, environ, service_account, by):
    options = {}
    if by == "variable":
        environ(GOOGLE_APPLICATION_CREDENTIALS=str(service_account))
    else:
        options["service_account_file"] = service_account
    with open_store(
        "gs://bucket", backend=backend, endpoint_url=server.endpoint_url, max_attempts=1, **options
    ) as store:
        try:
            store.get("key")
        except StorageError:
            assert backend == "arrow", "whose first request expects JSON"
    token = server.requests[0].headers["Authorization"].removeprefix("Bearer ")
    claims = token.split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert said["iss"] == "reader@p.iam.gserviceaccount.com"


def test_google_credentials_that_cannot_be_read(backend, server, tmp_path):
    with (
        pytest.raises(OptionError, match="Google credentials"),
        open_store(
            "gs://bucket", backend=backend, endpoint_url=server.endpoint_url, service_account_file=tmp_path / "no"
        ) as store,
    ):
        store.get("key")


def test_google_project(environ):
    with RecordingServer(
        lambda request: (404, b"{}") if request.method == "GET" else (200, b'{"name": "b"}')
    ) as server:
        environ(GOOGLE_CLOUD_PROJECT="my-project", STORAGE_EMULATOR_HOST=server.authority)
        make_filesystem(Uri.parse("gs://new-bucket"), StorageOptions.from_env("gs")).create_dir("new-bucket")
    (request,) = (request for request in server.requests if request.method == "POST")
    assert "project=my-project" in request.target


def test_obstores_own_variables_do_not_get_in(server, environ, service_account):
    """Complete options: what obstore would fill its gaps from plays no part."""
    environ(GOOGLE_BASE_URL="http://127.0.0.1:1", GOOGLE_SKIP_SIGNATURE="true")

    def sent(**fields):
        options = StorageOptions(endpoint_url=server.endpoint_url, **fields)
        with open_store("gs://bucket", storage_options=options) as store:
            store.get("key")
            store.put("key", b"")
        return [request.headers["Authorization"] for request in server.requests[-2:]]

    assert all(len(token) > 200 for token in sent(service_account_file=service_account)), "tokens of the account"
    assert sent(anonymous=True)[0] is None
