"""A bucket behind faults, and the ways to open it."""

import contextlib
import dataclasses

import pytest

from s3dlio.storage import open_store

from ..servers.faults import FaultProxy
from .raw_objects import RawAzureByArrow, RawAzureByObstore, RawS3

ENGINES = ["native", "arrow"]

QUICK = {"connect_timeout_s": 1.0, "read_timeout_s": 1.0, "retry_deadline_s": 10.0}
"""Short enough that a fault for ever ends a test soon, long enough for a busy machine."""


@dataclasses.dataclass
class FaultyBucket:
    """A new, empty bucket behind a ``FaultProxy``."""

    proxy: object
    name: str
    raw: object
    """The server itself by another client: neither counted nor broken."""
    backend: str
    lists: str
    """Pattern of a listing's query."""

    def open(self, **overrides):
        """The store of the bucket through the proxy, by ``backend``, with short timeouts."""
        return open_store(self.uri(), **{"backend": self.backend, **QUICK, **overrides})

    def open_patiently(self):
        """For counting: on a busy machine a short timeout makes one request two."""
        return open_store(self.uri(), backend=self.backend, read_timeout_s=60, retry_deadline_s=120)

    def close(self):
        if self.proxy.scheme != "az":
            self.raw.close()

    def uri(self, key=""):
        return f"{self.proxy.scheme}://{self.name}/{key}"


@pytest.fixture(params=ENGINES)
def backend(request):
    """Both engines in turn."""
    return request.param


@pytest.fixture
def faulty(proxied_s3_server, backend):
    """A ``FaultyBucket`` on every S3 server, for each engine."""
    with contextlib.closing(make(proxied_s3_server, backend)) as bucket:
        yield bucket


@pytest.fixture(
    params=[
        *(pytest.param((server, engine), id=f"{server}-{engine}") for server in ["moto_server"] for engine in ENGINES),
        *(
            pytest.param((server, engine), id=f"{server}-{engine}", marks=pytest.mark.servers)
            for server, engine in [
                ("radosgw_server", "native"),
                ("radosgw_server", "arrow"),
                ("azurite_server", "native"),
            ]
        ),
    ]
)
def faulty_anywhere(request, monkeypatch, clean_environment):
    """A ``FaultyBucket`` on every server and engine, but for arrow on Azure.

    pyarrow's client for Azure repeats requests by itself, for 6 s, and has no options for that, nor for time limits
    and certificates: what can be said of it stands in test_faults_azure.
    """
    server, engine = request.param
    with FaultProxy(request.getfixturevalue(server)) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(make(proxy, engine)) as bucket:
            yield bucket


def make(proxy, backend):
    name = proxy.new_container()
    if proxy.scheme == "az":
        raw = (RawAzureByArrow if backend == "native" else RawAzureByObstore)(proxy.upstream, name)
        return FaultyBucket(proxy, name, raw, backend, "comp=list")
    return FaultyBucket(proxy, name, RawS3(proxy.upstream, name), backend, "list-type=2")
