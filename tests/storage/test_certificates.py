"""TLS: whose certificates are trusted, on both engines."""

import subprocess
import sys

import pytest

from s3dlio.errors import OptionError, StorageError
from s3dlio.storage import open_store

from ..servers.certificates import make_certificate
from ..servers.faults import FaultProxy


@pytest.fixture
def environ(monkeypatch, clean_environment):
    """Set variables: environ(NAME="value")."""
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


@pytest.fixture
def tls(moto_server, tmp_path):
    certificate, bundle = make_certificate(tmp_path)
    with FaultProxy(moto_server, certificate=certificate) as proxy:
        yield proxy, bundle


@pytest.mark.parametrize("by", ["variable", "option", "profile"])
def test_a_certificate_of_the_users_own(backend, tls, environ, tmp_path, by):
    proxy, bundle = tls
    environ(**proxy.environment)
    if by == "variable":
        environ(AWS_CA_BUNDLE=str(bundle))
    if by == "profile":
        (tmp_path / "config").write_text(f"[default]\nca_bundle={bundle}\n")
        environ(AWS_CONFIG_FILE=str(tmp_path / "config"))
    with open_store("s3://bucket", backend=backend, **({"ca_bundle": bundle} if by == "option" else {})) as store:
        store.put("over-tls", b"some bytes")
        assert store.get("over-tls").to_pybytes() == b"some bytes"
    assert proxy.endpoint_url.startswith("https://")
    assert proxy.requests


def test_a_certificate_that_is_not_trusted(backend, tls, environ, tmp_path):
    proxy, _ = tls
    environ(**proxy.environment)
    _, other = make_certificate(tmp_path, "other")
    for options in ({}, {"ca_bundle": other}):
        with (
            pytest.raises(StorageError),
            open_store("s3://bucket", backend=backend, max_attempts=1, **options) as store,
        ):
            store.get("key")
    assert proxy.requests == []


def test_ssl_cert_file(backend, tls, environ):
    proxy, bundle = tls
    environ(**proxy.environment, SSL_CERT_FILE=str(bundle))
    code = (
        "from s3dlio.storage import open_store\n"
        f"with open_store('s3://bucket', backend={backend!r}) as store:\n store.put('ssl-cert-file', b'x')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert proxy.requests


def test_a_bundle_without_certificates(backend, tmp_path):
    (tmp_path / "empty.pem").write_text("nothing")
    for path, found in ((tmp_path / "empty.pem", "no certificate"), (tmp_path / "none.pem", "No such file")):
        with (
            pytest.raises(OptionError, match=found) as caught,
            open_store(
                "s3://bucket", backend=backend, ca_bundle=path, endpoint_url="https://127.0.0.1:1", anonymous=True
            ) as store,
        ):
            store.get("key")
        assert caught.value.field == "ca_bundle"
