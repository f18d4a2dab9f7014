import subprocess
import sys

import pytest

from s3dlio.errors import OptionError
from s3dlio.storage import LocalStore, MemoryStore, RemoteStore, StorageOptions, open_store
from s3dlio.storage.open import _STORES
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
    ],
)
def test_schemes(uri, expected):
    with open_store(uri) as store:
        assert type(store) is expected
        assert Uri.parse(store.uri("k")) == Uri.parse(uri).with_key("k")


def test_every_scheme_has_a_line():
    assert set(_STORES) == set(SCHEMES) - {"abfss"}  # which is parsed as az


def test_direct_says_what_to_use():
    with pytest.raises(OptionError, match="Use file:///data/x"):
        open_store("direct:///data/x")


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


def test_opening_starts_nothing():
    """No request, no thread, no file: a program opens stores before it forks."""
    code = """
import os, sys
import pyarrow.fs
from s3dlio.storage import inheritance, open_store
threads, files = os.listdir("/proc/self/task"), os.listdir("/proc/self/fd")
sys.addaudithook(lambda event, args: sys.exit(event) if event.startswith(("socket.", "_thread.start")) else None)
for uri in ("s3://bucket", "az://box", "gs://bucket", "memory://m", "/tmp"):
    open_store(uri, account_name="a", account_key="a2V5")
assert os.listdir("/proc/self/task") == threads
assert os.listdir("/proc/self/fd") == files
assert not inheritance._first_user
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
