from __future__ import annotations

import io
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.errors import OptionError
from s3dlio.formats import NpyFormat, NpzFormat
from s3dlio.generate import npy, npz, payload

SIZES = (
    st.integers(242, 500)
    | st.integers(242, 50_000)
    | st.sampled_from([10**n + 242 + d for n in range(1, 7) for d in (-1, 0)])
)


@given(SIZES, st.integers(0, 100))
def test_npz_is_exact_and_holds_the_payload(size, index):
    data = npz(size, seed=1, index=index)
    assert len(data) == size
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["data.npy"]
        assert archive.testzip() is None
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
    with np.load(io.BytesIO(data)) as arrays:
        assert arrays.files == ["data"]
        assert np.array_equal(arrays["data"], payload(size - 242, seed=1, index=index))
    assert np.array_equal(NpzFormat().decode(pa.py_buffer(data))["data"], payload(size - 242, seed=1, index=index))


@given(SIZES.map(lambda size: size - 114), st.integers(0, 100))
def test_npy_is_exact_and_holds_the_payload(size, index):
    data = npy(size, seed=1, index=index)
    assert len(data) == size
    expected = payload(size - 128, seed=1, index=index)
    assert np.array_equal(np.load(io.BytesIO(data)), expected)
    assert np.array_equal(NpyFormat().decode(pa.py_buffer(data))["data"], expected)
    reference = io.BytesIO()
    np.save(reference, expected)
    assert data == reference.getvalue()


@pytest.mark.parametrize("make", [npy, npz])
def test_the_same_object_is_the_same_bytes(make):
    assert make(5000, seed=1, index=2) == make(5000, seed=1, index=2)
    assert make(5000, seed=1, index=2) != make(5000, seed=1, index=3)
    assert make(5000, seed=1, index=2) != make(5000, seed=2, index=2)


@pytest.mark.parametrize("make", [npy, npz])
def test_options_reach_the_array(make):
    random = make(200_000, seed=1, index=2)
    assert len(zlib.compress(random)) >= 0.99 * len(random)
    squeezable = make(200_000, seed=1, index=2, compress=4.0)
    assert len(squeezable) / len(zlib.compress(squeezable)) == pytest.approx(4, rel=0.25)
    zeros = make(200_000, seed=1, index=2, kind="zeros")
    assert len(zlib.compress(zeros)) < 1000
    period = 12 * 4096  # of 48 blocks and a little more
    head, tail = (128, None) if make is npy else (166, -76)
    repeated = make(200_000, seed=1, index=2, dedup=4.0)[head:tail]
    assert repeated[:period] == repeated[period : 2 * period] != repeated[100 : period + 100]


@pytest.mark.parametrize(("make", "least"), [(npy, 128), (npz, 242)])
def test_the_least_size_holds_an_empty_array(make, least):
    loaded = np.load(io.BytesIO(make(least, seed=1, index=2)))
    array = loaded if isinstance(loaded, np.ndarray) else loaded["data"]
    assert array.shape == (0,)
    with pytest.raises(OptionError, match=f"size {least - 1}, expected") as caught:
        make(least - 1, seed=1, index=2)
    assert caught.value.field == "size"


def test_npz_stops_where_zip_needs_its_64_bit_extension():
    with pytest.raises(OptionError, match="use npy"):
        npz(1 << 32, seed=1, index=2)
