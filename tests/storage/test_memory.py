import pickle
import subprocess
import sys

import pytest

from s3dlio.errors import NotFoundError
from s3dlio.storage import MemoryStore, open_store


def test_a_name_is_a_store():
    with open_store("memory://shared/x") as one, MemoryStore("shared") as two, MemoryStore("another") as other:
        one.put("k", b"1")
        assert two.get("k").to_pybytes() == b"1"
        with pytest.raises(NotFoundError):
            other.get("k")
        one.clear()
        assert [*two.list()] == []


def test_content_outlives_the_handle():
    with MemoryStore("lasting") as store:
        store.put("k", b"1")
    with MemoryStore("lasting") as store:
        assert store.get("k").to_pybytes() == b"1"
        store.clear()


def test_content_travels_to_another_process():
    with MemoryStore("travelling") as store:
        store.put("k", b"1")
        code = "import pickle, sys; assert pickle.load(sys.stdin.buffer).get('k').to_pybytes() == b'1'"
        done = subprocess.run(
            [sys.executable, "-c", code], input=pickle.dumps(store), capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        store.clear()


def test_what_was_read_stays_as_it_was():
    with MemoryStore("stable") as store:
        source = bytearray(b"first")
        store.put("k", source)
        found = store.get("k")
        source[:] = b"other"
        store.put("k", b"second")
        assert found.to_pybytes() == b"first"
        store.clear()
