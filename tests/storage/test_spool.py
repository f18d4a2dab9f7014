import io
import tempfile

import pyarrow as pa
import pytest

from s3dlio.errors import StorageError
from s3dlio.storage import RemoteStore, StorageOptions
from s3dlio.storage import spool as spool_module
from s3dlio.storage.spool import Spool, SpoolSink, set_aside
from s3dlio.uri import Uri


@pytest.mark.parametrize("limit", [1 << 20, 10, 0])
@pytest.mark.parametrize(
    "pieces", [[], [b""], [b"one"], [b"12345", b"67890"], [b"12345", b"67890", b"1"], [b"x" * 5000]]
)
def test_what_goes_in_comes_out(monkeypatch, limit, pieces):
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", limit)
    spool = Spool()
    for number, piece in enumerate(pieces):
        spool.write(pa.py_buffer(piece) if number % 2 else piece)
    found = spool.read()
    spool.close()
    spool.close()
    assert found.to_pybytes() == b"".join(pieces)


def test_large_spools_are_on_disk(monkeypatch):
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", 10)
    spool = Spool()
    spool.write(b"1" * 10)
    assert not spool._on_disk
    spool.write(b"1")
    assert spool._on_disk
    spool.close()


@pytest.mark.parametrize("limit", [1 << 20, 4])
def test_a_sink_sends_everything_at_once(monkeypatch, limit):
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", limit)
    sent = []
    sink = SpoolSink("u", lambda data: sent.append(data.to_pybytes()))
    sink.write(b"one")
    sink.flush()
    assert sent == []
    sink.write(pa.py_buffer(b" two"))
    sink.publish()
    assert sent == [b"one two"]
    assert sink._spool._file.closed


@pytest.mark.parametrize("limit", [1 << 20, 4])
def test_a_sink_that_is_discarded_sends_nothing(monkeypatch, limit):
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", limit)
    sent = []
    sink = SpoolSink("u", sent.append)
    sink.write(b"one two")
    sink.discard()
    sink.discard()
    assert sent == []
    assert sink._spool._file.closed


def test_a_full_disk_is_an_error_of_the_write_that_meets_it(monkeypatch):
    """Also for what was in memory before: nothing waits in a buffer for a later call."""
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", 4)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
    sink = SpoolSink("s3://b/k", lambda _: None)
    sink.write(b"one")
    with pytest.raises(StorageError, match="Free some space, or set TMPDIR") as caught:
        sink.write(b" two")
    assert (caught.value.uri, caught.value.operation, caught.value.retryable) == ("s3://b/k", "write", False)
    sink.discard()


@pytest.mark.parametrize("limit", [1 << 20, 4])
def test_what_is_set_aside_stays_as_it_was(monkeypatch, limit):
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", limit)
    memory = bytearray(b"as it was")
    aside = set_aside(pa.py_buffer(memory), "put", "s3://b/k")
    memory[:] = b"something"
    assert aside.to_pybytes() == b"as it was"
    assert not aside.is_mutable


def test_a_full_disk_is_an_error_of_the_put_that_sets_aside(monkeypatch):
    monkeypatch.setattr(spool_module, "_MEMORY_BYTES", 4)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
    options = StorageOptions(endpoint_url="http://127.0.0.1:9", anonymous=True)
    with (
        RemoteStore(Uri.parse("s3://b"), options.replace(backend="arrow")) as store,
        pytest.raises(
            StorageError, match=r"^put s3://b/k: a temporary file .* Free some space, or set TMPDIR"
        ) as caught,
    ):
        store.put("k", bytearray(5))
    assert (caught.value.uri, caught.value.operation, caught.value.retryable) == ("s3://b/k", "put", False)
