"""Large puts of the arrow engine, which are handed to pyarrow a window at a time."""

import gc

import numpy as np
import pyarrow as pa
import pytest

from s3dlio.errors import StorageError

from ..servers.fault_actions import status

WINDOW = 20 << 20


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    monkeypatch.setattr("s3dlio.storage.arrow.store._WINDOW_BYTES", WINDOW)


@pytest.fixture
def backend():
    return "arrow"


def test_windows_make_one_object(faulty):
    data = np.random.default_rng(1).bytes(2 * WINDOW + (7 << 20))
    with faulty.open(retry_deadline_s=60, read_timeout_s=60) as store:
        store.put("k", data)
    assert faulty.raw.read("k") == data
    assert faulty.proxy.count("PUT", query="partNumber") == 5
    assert faulty.proxy.count("POST") == 2, "one upload, begun and completed"


@pytest.mark.parametrize("part", [1, 2, 3, 4])
def test_a_part_that_fails_publishes_nothing(faulty, part):
    faulty.proxy.fail(status(403, "AccessDenied"), method="PUT", query=f"partNumber={part}(&|$)", times=None)
    with faulty.open() as store:
        with pytest.raises(StorageError):
            store.put("k", pa.py_buffer(bytes(2 * WINDOW)))
        gc.collect()
        assert faulty.raw.read("k") is None
