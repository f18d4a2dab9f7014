"""Checksums of uploads: sent where they are asked for, and not to servers that refuse them."""

import base64
import hashlib
import re

import pytest

from s3dlio.storage import StorageOptions, open_store
from s3dlio.storage.native.client import make_client
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


def write(backend, server, **options):
    server.requests.clear()
    with open_store(
        "s3://bucket",
        backend=backend,
        endpoint_url=server.endpoint_url,
        access_key_id="K",
        secret_access_key="s",
        **options,
    ) as store:
        store.put("key", b"some bytes")
    (request,) = server.requests
    assert b"some bytes" in request.body
    return request.headers


def test_no_checksums_at_other_endpoints_unless_asked_for(backend, server, environ):
    for options in ({}, {"request_checksum": "when_required"}):
        headers = write(backend, server, **options)
        assert not re.search("(?i)checksum|trailer|aws-chunked|transfer-encoding", str(headers.items()))
    environ(AWS_REQUEST_CHECKSUM_CALCULATION="WHEN_REQUIRED")
    assert "checksum" not in str(write(backend, server).items())


@pytest.mark.parametrize("by", ["variable", "option", "profile"])
def test_checksums_that_are_asked_for(backend, server, environ, tmp_path, by):
    value = "when_supported"
    if by == "variable":
        environ(AWS_REQUEST_CHECKSUM_CALCULATION=value)
    if by == "profile":
        (tmp_path / "config").write_text(f"[default]\nrequest_checksum_calculation={value}\n")
        environ(AWS_CONFIG_FILE=str(tmp_path / "config"))
    headers = write(backend, server, **({"request_checksum": value} if by == "option" else {}))
    if backend == "native":
        assert headers["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(b"some bytes").digest()).decode()
    else:
        assert headers["x-amz-trailer"] == "x-amz-checksum-crc64nvme", "after the body"


def test_checksums_are_the_default_at_aws():
    config = make_client(Uri.parse("s3://bucket"), StorageOptions(access_key_id="K", secret_access_key="s")).config
    assert config["checksum_algorithm"].lower() == "sha256"


def test_uploads_with_checksums_arrive(backend, moto_environment):
    large = bytes(range(256)) * (90 << 10)  # several parts
    with open_store("s3://bucket", backend=backend, request_checksum="when_supported") as store:
        store.put("checked", b"some bytes")
        with store.open_writer("checked-large") as writer:
            writer.write(large)
        assert store.get("checked").to_pybytes() == b"some bytes"
        assert store.get("checked-large").to_pybytes() == large


@pytest.mark.servers
@pytest.mark.parametrize("checksum", [None, "when_required"])
def test_uploads_to_a_server_without_trailing_checksums(backend, radosgw_environment, checksum, monkeypatch):
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    with open_store("s3://bucket", backend=backend, request_checksum=checksum) as store:
        store.put("small", b"some bytes")
        with store.open_writer("large") as writer:
            for _ in range(3):
                writer.write(bytes(11 << 20))
        assert store.head("large").size == 33 << 20
