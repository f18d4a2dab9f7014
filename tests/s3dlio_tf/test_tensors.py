import gc

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from s3dlio.arrays import allocate
from s3dlio_tf.tensors import from_array, tensor_dtype, to_array, to_ragged

NUMBERS = ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]


def values(dtype, shape=(4, 3)):
    array = allocate(shape, np.dtype(dtype))
    array[...] = np.arange(array.size).reshape(shape) % 2 if dtype == "bool" else np.arange(array.size).reshape(shape)
    return array


@pytest.mark.parametrize("dtype", NUMBERS)
def test_numbers_share_memory(dtype):
    array = values(dtype)
    tensor = from_array(array)
    assert tensor.dtype == tensor_dtype(array.dtype)
    assert np.asarray(memoryview(tensor)).ctypes.data == array.ctypes.data
    np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_no_rows_keep_their_shape(dtype):
    tensor = from_array(values(dtype)[:0])
    assert tensor.shape == (0, 3)
    assert tensor.dtype == tensor_dtype(np.dtype(dtype))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_types_of_ml_dtypes_are_copied(dtype):
    array = values(dtype)
    tensor = from_array(array)
    assert tensor.dtype == tensor_dtype(array.dtype)
    assert tensor.numpy().tobytes() == array.tobytes()


def test_read_only_and_big_endian_arrays_are_copied():
    array = values("f4")
    array.flags.writeable = False
    np.testing.assert_array_equal(from_array(array).numpy(), array)
    np.testing.assert_array_equal(from_array(array.astype(">f4")).numpy(), array)


def test_text_becomes_strings():
    assert tensor_dtype(np.dtype("U3")) == tensor_dtype(np.dtype("S3")) == tf.string
    assert from_array(np.array([["ä", "b"]])).numpy().tolist() == [["ä".encode(), b"b"]]
    assert from_array(np.array([b"a", b"bc"])).numpy().tolist() == [b"a", b"bc"]


def test_what_tensorflow_lacks_has_no_dtype():
    assert tensor_dtype(np.dtype("M8[s]")) is None


def test_memory_lives_as_long_as_its_tensors():
    kept = []
    for number in range(50):
        array = allocate((256, 1024), np.dtype("i4"))
        array[...] = number
        kept.append(from_array(array))
        del array
    gc.collect()
    assert all((tensor.numpy() == number).all() for number, tensor in enumerate(kept))


def test_ragged_rows():
    rows = [np.arange(length, dtype=np.uint8) for length in (0, 3, 1)]
    assert to_ragged(rows).to_list() == [[], [0, 1, 2], [0]]
    equal = values("u1")
    ragged = to_ragged(equal)
    assert ragged.to_list() == equal.tolist()
    assert np.asarray(memoryview(ragged.flat_values)).ctypes.data == equal.ctypes.data
    assert to_ragged(equal[:0]).shape.as_list() == [0, None]


def test_to_array_of_tensors_and_variables():
    import keras

    for leaf in (tf.constant([1.0, 2.0]), tf.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0], dtype="float32")):
        found = to_array(leaf)
        assert isinstance(found, np.ndarray)
        assert found.tolist() == [1.0, 2.0]
    assert to_array(3) == 3
    assert to_array("text") == "text"
