from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from s3dlio.errors import FormatError
from s3dlio.formats import NpyFormat
from s3dlio.testing.formats import FormatSuite, assert_same_sample, every_kind_of_array

DTYPES = (
    hnp.scalar_dtypes() | hnp.unicode_string_dtypes() | hnp.byte_string_dtypes() | hnp.nested_dtypes()
)  # fmt: skip


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stored array in format", UserWarning)
        np.lib.format.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


class TestNpyFormat(FormatSuite):
    format = NpyFormat()

    def samples(self):
        return [(npy(array), {"data": array}) for array in every_kind_of_array().values()]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("name", every_kind_of_array())
def test_agrees_with_numpy_in_every_version(name, version):
    data = npy(every_kind_of_array()[name], version)
    array = NpyFormat().decode(pa.py_buffer(data))["data"]
    reference = np.load(io.BytesIO(data))
    assert_same_sample({"data": array}, {"data": reference})
    assert array.dtype.byteorder == reference.dtype.byteorder
    assert array.dtype.fields == reference.dtype.fields
    assert (array.flags.c_contiguous, array.flags.f_contiguous) == (
        reference.flags.c_contiguous,
        reference.flags.f_contiguous,
    )


@given(st.data())
def test_any_array_of_numpy(data):
    array = data.draw(hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    if array.dtype.hasobject:
        return
    raw = npy(np.asarray(array, order=data.draw(st.sampled_from("CF"))))
    assert_same_sample(NpyFormat().decode(pa.py_buffer(raw)), {"data": np.load(io.BytesIO(raw))})


def test_arrays_are_views_of_the_buffer():
    raw = npy(np.arange(1000.0))
    buffer = pa.py_buffer(raw)
    array = NpyFormat().decode(buffer)["data"]
    assert array.ctypes.data == buffer.address + len(raw) - 8000
    assert np.shares_memory(array, np.frombuffer(buffer, np.uint8))


def test_arrays_are_aligned_in_an_aligned_buffer():
    raw = npy(np.arange(100.0))
    memory = pa.allocate_buffer(len(raw))
    np.frombuffer(memory, np.uint8)[:] = np.frombuffer(raw, np.uint8)
    assert NpyFormat().decode(memory)["data"].ctypes.data % 64 == 0


def test_python_objects_are_refused_without_unpickling():
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("unpickled",)

    raw = npy(np.array([Bomb()], dtype=object))
    with pytest.raises(pytest.fail.Exception):
        np.load(io.BytesIO(raw), allow_pickle=True)
    with pytest.raises(FormatError, match="Python objects"):
        NpyFormat().decode(pa.py_buffer(raw))


def test_long_headers_of_version_2():
    dtype = np.dtype([(f"column_{n:05d}", "<f4") for n in range(3000)])
    raw = npy(np.ones(2, dtype), (2, 0))
    assert len(raw) - 2 * dtype.itemsize > 1 << 16
    assert NpyFormat().decode(pa.py_buffer(raw))["data"].dtype == dtype


@pytest.mark.parametrize("cut", [1, 8, 799])
def test_sizes_must_match_exactly(cut):
    raw = npy(np.arange(100.0))
    for wrong, found in ((raw[:-cut], 800 - cut), (raw + b"\0" * cut, 800 + cut)):
        with pytest.raises(FormatError, match=f"{found} bytes of data, expected 800") as caught:
            NpyFormat().decode(pa.py_buffer(wrong))
        assert caught.value.offset == min(len(wrong), len(raw))


def test_remembers_a_bounded_number_of_headers():
    npys = NpyFormat()
    for rows in range(1000):
        assert npys.decode(pa.py_buffer(npy(np.zeros(rows, np.uint8))))["data"].shape == (rows,)
    assert 0 < len(npys._layouts) <= 128
    before = dict(npys._layouts)
    npys.decode(pa.py_buffer(npy(np.zeros(1, [(f"name_{n}", "<f4") for n in range(100)]))))
    assert npys._layouts == before, "a header of more than 1 KiB was kept"


def test_a_remembered_header_is_not_parsed_again(monkeypatch):
    npys = NpyFormat()
    buffer = pa.py_buffer(npy(np.arange(3)))
    npys.decode(buffer)
    monkeypatch.setattr("s3dlio.formats.npy.parse_header", lambda *_: pytest.fail("parsed again"))
    assert npys.decode(buffer)["data"].tolist() == [0, 1, 2]


def test_instances_share_nothing():
    one, other = NpyFormat(), NpyFormat()
    one.decode(pa.py_buffer(npy(np.arange(3))))
    assert one == other
    assert not other._layouts
    assert not pickle.loads(pickle.dumps(one))._layouts
