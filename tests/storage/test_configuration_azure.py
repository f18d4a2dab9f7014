"""Azure's variables and options, seen from the server."""

import base64

import pytest

from s3dlio.errors import OptionError
from s3dlio.storage import StorageOptions, open_store
from s3dlio.storage.arrow.client import make_filesystem
from s3dlio.uri import Uri

from .recording_server import BODY, RecordingServer


@pytest.fixture
def server():
    with RecordingServer() as running:
        yield running


@pytest.fixture
def environ(monkeypatch, clean_environment):
    """Set variables: environ(NAME="value")."""
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def read(backend, uri, **options):
    with open_store(uri, backend=backend, **options) as store:
        assert store.get("key").to_pybytes() == BODY


def test_obstores_own_variables_do_not_get_in(server, environ):
    """Complete options: what obstore would fill its gaps from plays no part."""
    environ(
        AZURE_ENDPOINT="http://127.0.0.1:1",
        AZURE_STORAGE_ENDPOINT="http://127.0.0.1:1",
        AZURE_STORAGE_ACCOUNT_NAME="foreign",
        AZURE_STORAGE_ACCOUNT_KEY="Zm9yZWlnbg==",
        AZURE_STORAGE_SAS_KEY="sig=foreign",
        AZURE_STORAGE_TOKEN="foreign",
        AZURE_STORAGE_USE_EMULATOR="true",
        AZURE_SKIP_SIGNATURE="true",
    )

    def sent(**fields):
        options = StorageOptions(endpoint_url=server.endpoint_url, account_name="acc", **fields)
        read("native", "az://container", storage_options=options)
        return server.requests[-1]

    by_key = sent(account_key="a2V5")
    assert by_key.headers["Authorization"].startswith("SharedKey acc:")
    assert "foreign" not in by_key.target
    by_signature = sent(sas_token="sig=mine")
    assert by_signature.headers["Authorization"] is None
    assert "sig=mine" in by_signature.target


def test_azure_key_and_sas(server, environ):
    """On the native engine: Azure's own client wants a real server, below."""
    key = base64.b64encode(b"key").decode()
    environ(
        AZURE_STORAGE_ACCOUNT="account", AZURE_STORAGE_KEY=key, AZURE_STORAGE_ENDPOINT=f"{server.endpoint_url}/account"
    )
    read("native", "az://container")
    assert server.requests[-1].headers["Authorization"].startswith("SharedKey account:")
    assert server.requests[-1].target.startswith("/account/container/key")
    read("native", "az://container", sas_token="?sv=1&sig=abc")
    assert server.requests[-1].headers["Authorization"] is None, "what is given wins over the environment"
    assert "sig=abc" in server.requests[-1].target
    read("native", "az://container", anonymous=True)
    assert "sig" not in server.requests[-1].target
    assert server.requests[-1].headers["Authorization"] is None


@pytest.mark.servers
@pytest.mark.parametrize("by", ["key", "sas", "connection string", "abfss", "connection string with sas"])
def test_azure(backend, azurite_server, environ, by):
    account, key, url = azurite_server.access_key, azurite_server.secret_key, azurite_server.endpoint_url
    uri = f"az://{azurite_server.container}"
    sas = account_sas(account, key)
    if by == "key":
        environ(AZURE_STORAGE_ACCOUNT=account, AZURE_STORAGE_KEY=key, AZURE_STORAGE_ENDPOINT=url)
    elif by == "sas":
        environ(AZURE_STORAGE_ACCOUNT=account, AZURE_STORAGE_SAS_TOKEN=sas, AZURE_STORAGE_ENDPOINT=url)
    elif by == "abfss":
        uri = f"abfss://{azurite_server.container}@{account}.dfs.core.windows.net"
        environ(AZURE_STORAGE_KEY=key, AZURE_STORAGE_ENDPOINT=url)
    else:
        secret = f"SharedAccessSignature={sas}" if "sas" in by else f"AccountKey={key}"
        environ(
            AZURE_STORAGE_CONNECTION_STRING=f"AccountName={account};{secret};BlobEndpoint={url}",
            AZURE_STORAGE_KEY="b3RoZXI=",
        )
    with open_store(uri, backend=backend) as store:
        store.put("configured", by.encode())
        assert store.get("configured").to_pybytes() == by.encode()


def account_sas(account, key):
    """Source: Azure REST API, "Create an account SAS"."""
    import datetime as dt
    import hmac
    from urllib.parse import urlencode

    fields = {
        "sp": "rwdlac",
        "ss": "b",
        "srt": "sco",
        "st": "",
        "se": (dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sip": "",
        "spr": "https,http",
        "sv": "2021-12-02",
    }
    text = "\n".join([account, *fields.values(), "", ""])
    signature = base64.b64encode(hmac.digest(base64.b64decode(key), text.encode(), "sha256")).decode()
    return urlencode({**{name: value for name, value in fields.items() if value}, "sig": signature})


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://acc.blob.core.chinacloudapi.cn", ".blob.core.chinacloudapi.cn"),
        ("http://127.0.0.1:10000/acc", "127.0.0.1:10000"),
    ],
)
def test_azure_endpoints_as_pyarrow_wants_them(url, authority):
    options = StorageOptions(account_name="acc", account_key="a2V5", endpoint_url=url)
    filesystem = make_filesystem(Uri.parse("az://container"), options)
    shown = str(filesystem.__reduce__())
    assert f"'blob_storage_authority': '{authority}'" in shown
    assert f"'dfs_storage_authority': '{authority.replace('.blob.', '.dfs.')}'" in shown


def test_an_azure_account_that_is_missing_or_another(backend):
    for uri, options in (
        ("az://container", {}),
        ("abfss://container@one.dfs.core.windows.net", {"account_name": "two", "account_key": "a2V5"}),
    ):
        with (
            pytest.raises(OptionError, match="account") as caught,
            open_store(uri, backend=backend, **options) as store,
        ):
            store.get("key")
        assert caught.value.field == "account_name"
