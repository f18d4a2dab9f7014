import pyarrow as pa
import pytest

from s3dlio.storage import spool as spool_module
from s3dlio.storage.spool import Spool


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
