"""A bucket behind faults, and the ways to open it."""

import contextlib
import dataclasses

import pytest

from s3dlio.storage import open_store

from ..conftest import S3_SERVERS
from ..servers.faults import FaultProxy
from .raw_objects import RawAzureByArrow, RawAzureByObstore, RawGoogle, RawS3

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
    goes_on: str = "continuation-token"
    """Pattern of the query of its second page."""
    parts: str = "partNumber=([2-9]|1.)"
    """Pattern of the query of a PUT in the middle of an upload: of its second part and those behind it."""
    reads: str = ""
    """Pattern of the query of a GET that reads an object's bytes."""
    looks: dict = dataclasses.field(default_factory=lambda: {"method": "GET"})
    """What ``fail`` and ``count`` need for the first request of each read of a range that can tell its version."""
    found_by: int = 0
    """How many such requests find an object's version and size before its ranges are read."""

    @property
    def google_by_arrow(self):
        """Whether Google's own client is at work, by the JSON interface; see test_faults_google."""
        return self.proxy.scheme == "gs" and self.backend == "arrow"

    def open(self, **overrides):
        """The store of the bucket through the proxy, by ``backend``, with short timeouts."""
        nobody = {"anonymous": True} if self.proxy.scheme == "gs" else {}  # also at an endpoint of a test's own
        return open_store(self.uri(), **{"backend": self.backend, **nobody, **QUICK, **overrides})

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
        *(pytest.param(("google_server", engine), id=f"google_server-{engine}") for engine in ENGINES),
    ]
)
def faulty_anywhere(request, monkeypatch, clean_environment):
    """A ``FaultyBucket`` on every server and engine, but for arrow on Azure.

    pyarrow's client for Azure repeats requests by itself, for 6 s, and has no options for that, nor for time limits
    and certificates: what can be said of it stands in test_faults_azure.
    """
    server, engine = request.param
    with proxy_of(request.getfixturevalue(server)) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(make(proxy, engine)) as bucket:
            yield bucket


@pytest.fixture(params=[*S3_SERVERS, "google_server"])
def faulty_buckets(request, backend, monkeypatch, clean_environment):
    """As ``faulty``, on Google besides."""
    with proxy_of(request.getfixturevalue(request.param)) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(make(proxy, backend)) as bucket:
            yield bucket


def proxy_of(server):
    """A new proxy in front of ``server``.

    Google's own client pauses for 1 to 2 s after a failure that comes within ``_GOOGLE_RETRY``, as none does on a
    network.
    """
    return FaultProxy(server, latency_s=0.015 if server.scheme == "gs" else 0.0)


def make(proxy, backend):
    name = proxy.new_container()
    look = {} if backend == "native" else {"looks": {"method": "HEAD"}, "found_by": 1}
    if proxy.scheme == "az":
        raw = (RawAzureByArrow if backend == "native" else RawAzureByObstore)(proxy.upstream, name)
        return FaultyBucket(proxy, name, raw, backend, "comp=list", **look)
    if proxy.scheme == "gs":
        raw = RawGoogle(proxy.upstream, name)
        if backend == "native":
            return FaultyBucket(proxy, name, raw, backend, "list-type=2")
        media = {"reads": "alt=media", "looks": {"method": "GET", "query": "alt=media"}, "found_by": 1}
        # Of its two PUTs, nearly all and the rest, the second one publishes.
        return FaultyBucket(proxy, name, raw, backend, "includeTrailingDelimiter", "pageToken=.", "upload_id=", **media)
    return FaultyBucket(proxy, name, RawS3(proxy.upstream, name), backend, "list-type=2", **look)
