"""What the two engines' clients are made with, beyond what ``test_configuration.py`` sees of single requests."""

import datetime as dt
import json
import os
import subprocess
import sys
import threading
import traceback

import obstore
import pytest

from s3dlio.errors import OptionError
from s3dlio.storage import StorageOptions, open_store
from s3dlio.storage.arrow.client import make_filesystem
from s3dlio.storage.configuration import credentials
from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.native.client import make_client
from s3dlio.uri import Uri

from .recording_server import RecordingServer

KEYS = {"access_key_id": "K", "secret_access_key": "s"}
CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"


@pytest.fixture
def unavailable():
    with RecordingServer(lambda _: (503, b"")) as server:
        yield server


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_the_arrow_engines_sdk_repeats_nothing(unavailable, scheme):
    uri = Uri.parse(f"{scheme}://bucket")
    options = StorageOptions(endpoint_url=unavailable.endpoint_url, anonymous=True)
    with pytest.raises(Exception, match=r"(?i)503|unavailable|exhausted"):
        make_filesystem(uri, options).open_input_file("bucket/key")
    assert len(unavailable.requests) == 1


def test_it_repeats_what_is_done_to_buckets(unavailable):
    options = StorageOptions(endpoint_url=unavailable.endpoint_url, **KEYS)
    with pytest.raises(OSError, match="503"):
        make_filesystem(Uri.parse("s3://bucket"), options, buckets=True).create_dir("bucket")
    assert len(unavailable.requests) > 1


@pytest.mark.parametrize(("retries", "requests"), [(False, 1), (True, 3)])
def test_the_native_engine_repeats_as_it_is_told(unavailable, retries, requests):
    options = StorageOptions(endpoint_url=unavailable.endpoint_url, max_attempts=3, **KEYS)
    client = make_client(Uri.parse("s3://bucket"), options, retries=retries)
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.get(client, "key")
    assert len(unavailable.requests) == requests


PROXY = "http://some.host.example"
"""Nobody has this name, so a request that arrives came through the proxy."""


@pytest.mark.parametrize("engine", ["native", "arrow"])
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_of_the_environment(monkeypatch, clean_environment, engine, name):
    with RecordingServer() as proxy:
        monkeypatch.setenv(name, proxy.endpoint_url.replace("http://", "http://us%40er:pass@"))
        with open_store("s3://bucket", endpoint_url=PROXY, backend=engine, **KEYS) as store:
            store.get("key")
    assert {request.target for request in proxy.requests} == {f"{PROXY}/bucket/key"}
    assert {request.headers["Proxy-Authorization"] for request in proxy.requests} == {"Basic dXNAZXI6cGFzcw=="}


@pytest.mark.parametrize("engine", ["native", "arrow"])
@pytest.mark.parametrize("names", ["127.0.0.1", "some.host, 127.0.0.0/8"])
def test_no_proxy_for_hosts_that_are_named(monkeypatch, clean_environment, engine, names):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", names)
    with RecordingServer() as server:
        with open_store("s3://bucket", endpoint_url=server.endpoint_url, backend=engine, **KEYS) as store:
            store.get("key")
        assert server.keys == {"K"}


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "url", ["socks5://user:hidden@127.0.0.1:1", "http://user:hidden/word@127.0.0.1", "http://host:port", "http://[::1"]
)
def test_a_proxy_that_arrow_does_not_know(monkeypatch, clean_environment, name, url):
    monkeypatch.setenv(name, url)
    with pytest.raises(OptionError, match=f"{name} is no URL of an HTTP proxy") as caught:
        make_filesystem(Uri.parse("s3://bucket"), StorageOptions(endpoint_url=PROXY, **KEYS))
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", ["hidden, not base64!", "hidden", "a", "clé=", "a2V5=", "a2V5===="])
@pytest.mark.parametrize("make", [make_client, make_filesystem])
def test_an_azure_key_that_is_none(make, key):
    """Azure's library would end the process."""
    options = StorageOptions(account_name="acc", account_key=key)
    with pytest.raises(OptionError, match="account_key is not base64") as caught:
        make(Uri.parse("az://box"), options)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"type": "authorized_user", "client_id": "id"},
        {"type": "external_account", "audience": "a"},
        {"type": "service_account", "client_email": "e", "private_key_id": "1", "private_key": "hidden"},
    ],
    ids=lambda content: content.get("type", "nothing"),
)
def test_google_credentials_that_the_native_engine_cannot_use(tmp_path, content):
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps(content))
    with pytest.raises(OptionError, match=r"refused.*Check the Google credentials /.*json, or .*arrow") as caught:
        make_client(Uri.parse("gs://bucket"), StorageOptions(service_account_file=file))
    assert caught.value.field == "service_account_file"
    assert "hidden" not in str(caught.value)


def visible_to_a_child(name):
    """What C has in the variable, which ``os.environ`` need not have."""
    code = f"import os; print(os.environ.get({name!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("before", [None, "when_supported"])
def test_making_a_filesystem_leaves_the_environment_alone(monkeypatch, clean_environment, before):
    if before is not None:
        monkeypatch.setenv(CHECKSUMS, before)
    options = StorageOptions(endpoint_url="http://127.0.0.1:1", **KEYS)
    make_filesystem(Uri.parse("s3://bucket"), options)
    assert os.environ.get(CHECKSUMS) == before
    assert visible_to_a_child(CHECKSUMS) == str(before)


def test_filesystems_made_at_the_same_time_keep_their_checksums():
    """The SDK is told by a variable of the process: each thread must find its own."""
    wrong = []
    start = threading.Barrier(4)

    def make_and_put(number):
        checksum = ("when_required", "when_supported")[number % 2]
        options = StorageOptions(endpoint_url=server.endpoint_url, request_checksum=checksum, **KEYS)
        start.wait()
        for turn in range(20):
            filesystem = make_filesystem(Uri.parse("s3://bucket"), options)
            if turn % 5 == 0:
                with filesystem.open_output_stream(f"bucket/{checksum}") as stream:
                    stream.write(b"x")

    with RecordingServer() as server:
        threads = [threading.Thread(target=make_and_put, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 16
    for request in server.requests:
        if ("x-amz-trailer" in request.headers) != request.target.endswith("when_supported"):
            wrong.append(request)
    assert not wrong


def test_addressing_at_amazon():
    for addressing, endpoint in (
        (None, "https://bucket.s3.eu-west-1.amazonaws.com"),
        ("virtual", "https://bucket.s3.eu-west-1.amazonaws.com"),
        ("path", "https://s3.eu-west-1.amazonaws.com"),
    ):
        options = StorageOptions(region="eu-west-1", addressing=addressing, **KEYS)
        assert make_client(Uri.parse("s3://bucket"), options).config["endpoint"] == endpoint
        shown = str(make_filesystem(Uri.parse("s3://bucket"), options).__reduce__())
        assert ("'endpoint_override': 's3.eu-west-1.amazonaws.com'" in shown) == (addressing == "path")
    china = StorageOptions(region="cn-north-1", **KEYS)
    endpoint = make_client(Uri.parse("s3://bucket"), china).config["endpoint"]
    assert endpoint == "https://bucket.s3.cn-north-1.amazonaws.com.cn"


def multipart(request):
    """What S3 answers to a multipart upload."""
    if request.method == "POST" and "?uploads" in request.target:
        return 200, b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
    if request.method == "POST":
        return 200, b"<CompleteMultipartUploadResult><ETag>etag</ETag></CompleteMultipartUploadResult>"
    return None


def test_a_long_upload_outlives_its_credentials(monkeypatch):
    """The native engine renews between two parts, without a request that fails."""
    given = []

    def provider():
        given.append(f"NEW{len(given) + 1}")
        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=200 if len(given) == 1 else 3600)
        return Credentials(access_key_id=given[-1], secret_access_key="s", expires_at=until)

    real = credentials.time.time
    with (
        RecordingServer(multipart) as server,
        open_store(
            "s3://bucket", endpoint_url=server.endpoint_url, credential_provider=provider, backend="native"
        ) as store,
    ):
        writer = store.open_writer("key")
        writer.write(bytes(40 << 20))
        writer.flush()
        assert given == ["NEW1"]
        monkeypatch.setattr(credentials.time, "time", lambda: real() + 150)
        for _ in range(100):  # obstore asks at most every 0.1 s, and parts of the first half may still be on their way
            writer.write(bytes(16 << 20))
            writer.flush()
            if len(given) > 1:
                break
        writer.close()
    assert server.requests[0].key == "NEW1"
    (completion,) = (request for request in server.requests if request.target.endswith("?uploadId=1"))
    assert completion.key == "NEW2"
    assert given == ["NEW1", "NEW2"]
