import gc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from s3dlio.arrays import allocate, from_tensor_array, to_tensor_array
from s3dlio.errors import OptionError

DTYPES = ["?", "u1", "<i2", ">i4", "<f8", "c16", "S5", "U3", "M8[s]", "V7", [("a", "<i4"), ("b", "u1")]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0), (0,)])
def test_allocated_memory_is_writable_contiguous_and_aligned(shape, dtype):
    array = allocate(shape, np.dtype(dtype))
    assert array.shape == shape
    assert array.dtype == np.dtype(dtype)
    assert array.flags.writeable
    assert array.flags.c_contiguous
    if array.nbytes:
        assert array.ctypes.data % 64 == 0
        array[...] = np.ones(shape, np.dtype(dtype))
        assert array.tobytes() == np.ones(shape, np.dtype(dtype)).tobytes()


def test_allocated_memory_goes_back_to_the_pool_with_the_last_view():
    pool = pa.default_memory_pool()
    gc.collect()
    before = pool.bytes_allocated()
    array = allocate((64 << 20,), np.dtype("u1"))
    view = array[5:].reshape(-1)[::2]
    del array
    gc.collect()
    assert pool.bytes_allocated() >= before + (60 << 20), "what other tests left may go meanwhile"
    del view
    gc.collect()
    assert pool.bytes_allocated() <= before + (4 << 20)


def test_python_objects_are_refused():
    with pytest.raises(OptionError, match="without Python objects") as caught:
        allocate((2,), np.dtype(object))
    assert caught.value.field == "dtype"


NUMBERS = st.sampled_from(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]).map(np.dtype)


@given(hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)), st.data())
def test_a_tensor_column_shows_the_same_memory(array, data):
    column = to_tensor_array(array)
    assert len(column) == len(array)
    assert column.type.shape == list(array.shape[1:])
    back = from_tensor_array(column)
    assert np.shares_memory(back, array)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    low = data.draw(st.integers(0, len(array)))
    high = data.draw(st.integers(low, len(array)))
    assert from_tensor_array(column[low:high]).tobytes() == array[low:high].tobytes()
    assert from_tensor_array(column[low:high]).shape == array[low:high].shape
    # what Arrow itself says of a row, which does not go through this module
    for row in range(len(array)):
        assert column.storage[row].values.to_numpy().tobytes() == array[row].tobytes()


def test_a_tensor_column_is_read_only_and_keeps_its_memory():
    array = allocate((4, 3), np.dtype("<i4"))
    array[...] = np.arange(12).reshape(4, 3)
    back = from_tensor_array(to_tensor_array(array))
    del array
    gc.collect()
    assert not back.flags.writeable
    np.testing.assert_array_equal(back, np.arange(12).reshape(4, 3))


def test_a_column_without_rows():
    array = np.empty((0, 3, 2), "<f4")
    assert from_tensor_array(to_tensor_array(array)).shape == (0, 3, 2)


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.0),
        np.arange(6).reshape(2, 3).T,
        np.arange(6)[::2],
        np.arange(6, dtype=">f4").reshape(2, 3),
        np.array([True, False]),
        np.array(["a"]),
        np.array([b"a"]),
        np.array([1], "M8[D]"),
        np.array([1], "M8[ns]"),
        np.zeros(2, "c8"),
        np.zeros(2, "g"),
        np.zeros(2, [("a", "i4")]),
        np.zeros((2, 0, 3), "f4"),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_what_arrow_lays_out_otherwise_is_refused(array):
    with pytest.raises(OptionError, match="tensor column: ") as caught:
        to_tensor_array(array)
    assert caught.value.field == "array"
