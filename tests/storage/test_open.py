import subprocess
import sys

import pyarrow.fs as pafs
import pytest

from s3dlio.errors import OptionError
from s3dlio.storage import LocalStore, MemoryStore, RemoteStore, StorageOptions, open_store
from s3dlio.storage.direct.store import DirectStore
from s3dlio.storage.http.store import HttpStore
from s3dlio.storage.multi.store import MultiEndpointStore
from s3dlio.storage.open import _STORES, locate
from s3dlio.storage.operation_log.log import op_log
from s3dlio.storage.operation_log.store import LoggedStore
from s3dlio.storage.requests.resilient import ForeignStore
from s3dlio.uri import SCHEMES, Uri


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/k", RemoteStore),
        ("gs://bucket/k", RemoteStore),
        ("az://container/k", RemoteStore),
        ("abfss://c@account.dfs.core.windows.net/k", RemoteStore),
        ("memory://name/k", MemoryStore),
        ("file:///tmp", LocalStore),
        ("/tmp", LocalStore),
        (Uri("file", "", "tmp"), LocalStore),
        ("direct:///tmp", DirectStore),
        ("http://host:1/k", HttpStore),
        ("https://host/k", HttpStore),
    ],
)
def test_schemes(uri, expected):
    with open_store(uri) as store:
        assert type(store) is expected
        assert Uri.parse(store.uri("k")) == Uri.parse(uri).with_key("k")


def test_every_scheme_has_a_line():
    assert set(_STORES) == set(SCHEMES) - {"abfss"}  # which is parsed as az


def test_several_endpoints(monkeypatch):
    with open_store("s3://b", endpoint_urls=["http://a{1...2}:1"]) as store:
        assert type(store) is MultiEndpointStore
        assert store.options.endpoint_urls == ("http://a1:1", "http://a2:1")
    with open_store("s3://b", storage_options={"endpoint_url": "http://a,http://b"}) as store:
        assert type(store) is MultiEndpointStore
    monkeypatch.setenv("S3DLIO_ENDPOINT_URLS", "http://a http://b")
    with open_store("s3://b") as store:
        assert type(store) is MultiEndpointStore
    with open_store("s3://b", endpoint_url="http://mine") as store:
        assert type(store) is RemoteStore
    for uri in ("memory://b", "/tmp"):
        for options in (None, StorageOptions(endpoint_urls="http://a http://b")):
            with open_store(uri, storage_options=options) as store:
                assert type(store) in {MemoryStore, LocalStore}


def test_one_endpoint_in_the_list():
    with open_store("s3://b", endpoint_urls=["http://a:1"]) as store:
        assert [one.endpoint_url for one in store.endpoint_statistics] == ["http://a:1"]


def test_a_filesystem_of_the_callers_own(tmp_path):
    (tmp_path / "x").write_bytes(b"123")
    own = pafs.LocalFileSystem()
    store, key = locate(f"{tmp_path}/x", filesystem=own)
    with store:
        assert type(store) is ForeignStore
        assert store.get(key).to_pybytes() == b"123"
        assert store.filesystem is own
    store, key = locate("x", filesystem=pafs.SubTreeFileSystem(str(tmp_path), own), max_attempts=2)
    with store:
        assert store.get(key).size == 3
    with pytest.raises(OptionError, match="got the filesystem int"):
        open_store("x", filesystem=3)


def test_an_operation_log(tmp_path):
    with op_log(tmp_path / "ops.tsv") as log:
        for uri, options in {
            "memory://b": {},
            "/tmp": {},
            "s3://b": {},
            "x": {"filesystem": pafs.LocalFileSystem()},
        }.items():
            with open_store(uri, **options) as store:
                assert type(store) is LoggedStore
                assert store._log is log
        with open_store("s3://b", endpoint_urls="http://a http://b") as store:
            assert {type(one) for one in store._stores} == {LoggedStore}


def test_options_and_overrides(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "from-environment")
    options = StorageOptions(region="given", backend="arrow")
    assert open_store("s3://b").options.region == "from-environment"
    assert open_store("s3://b", storage_options=options).options == options
    assert open_store("s3://b", storage_options=options, region="override").options == options.replace(
        region="override"
    )
    assert open_store("s3://b", region="override").options.region == "override"
    with pytest.raises(OptionError, match="unknown option 'colour'"):
        open_store("s3://b", colour="red")
    with pytest.raises(OptionError, match="unknown option 'colour'"):
        open_store("memory://b", storage_options=options, colour="red")


@pytest.mark.parametrize("given", ["native", 3, [("region", "r")]])
def test_options_of_another_type(given):
    with pytest.raises(OptionError, match=f"storage_options is {type(given).__name__}, expected a dict"):
        open_store("s3://b", storage_options=given)


def test_a_profile_in_options_for_both_sides_of_a_copy():
    assert isinstance(open_store("/tmp", storage_options={"profile": "any"}), LocalStore)


def test_opening_starts_nothing():
    """No request, no thread, no file: a program opens stores before it forks."""
    code = """
import os, sys
import pyarrow.fs
from s3dlio.storage import open_store
from s3dlio.storage.requests import inheritance
threads, files = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
sys.addaudithook(lambda event, args: sys.exit(event) if event.startswith(("socket.", "_thread.start")) else None)
for uri in ("s3://bucket", "az://box", "gs://bucket", "memory://m", "/tmp", "direct:///tmp", "http://host/"):
    open_store(uri, account_name="a", account_key="a2V5")
open_store("s3://bucket", endpoint_urls="http://a{1...3}")
assert os.listdir("/proc/self/task") == threads
assert os.listdir("/proc/self/fd") == files
assert not inheritance._first_user
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
