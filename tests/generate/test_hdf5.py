import io

import h5py
import numpy as np
import pytest

from s3dlio.errors import OptionError
from s3dlio.generate import hdf5, payload


@pytest.mark.parametrize("size", [1401, 1402, 2000, 4096, 100_000, 1 << 20])
def test_is_exact_and_holds_the_payload(size):
    data = hdf5(size, seed=1, index=2)
    assert data.readonly
    assert len(data) == size
    with h5py.File(io.BytesIO(data)) as file:
        assert [*file] == ["data"]
        found = file["data"]
        assert found.chunks is None
        assert np.array_equal(found[()], payload(found.size, seed=1, index=2))


def test_the_same_object_is_the_same_bytes():
    assert hdf5(5000, seed=1, index=2) == hdf5(5000, seed=1, index=2)
    assert hdf5(5000, seed=1, index=2) != hdf5(5000, seed=1, index=3)


def test_options_reach_the_dataset():
    with h5py.File(io.BytesIO(hdf5(5000, seed=1, index=2, kind="zeros"))) as file:
        assert not file["data"][()].any()


def test_too_small():
    with pytest.raises(OptionError, match="hdf5: size 1000, expected more than 1400 bytes"):
        hdf5(1000, seed=1, index=0)
