import ml_dtypes
import numpy as np
import pytest
import torch

from s3dlio.arrays import allocate
from s3dlio_torch import from_array, to_array, to_tensors

pytestmark = pytest.mark.framework("torch")

TABLE = {
    "bool": torch.bool,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "complex64": torch.complex64,
    "complex128": torch.complex128,
}
EXTENDED = {
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
}


@pytest.mark.parametrize("name", TABLE)
def test_a_batch_becomes_tensors_of_the_same_memory(name):
    array = allocate((3, 2), np.dtype(name))
    array[...] = np.array([[0, 1], [1, 0], [1, 1]]).astype(name)
    tensor = to_tensors({"x": array})["x"]
    assert tensor.dtype is TABLE[name]
    assert tensor.shape == (3, 2)
    assert tensor.data_ptr() == array.ctypes.data
    assert tensor.tolist() == array.tolist()


@pytest.mark.parametrize("name", TABLE)
def test_arrays_and_back_share_memory(name):
    array = np.array([[0, 1], [1, 0]]).astype(name)
    tensor = from_array(array)
    assert tensor.dtype is TABLE[name]
    assert tensor.data_ptr() == array.ctypes.data
    back = to_array(tensor)
    assert back.dtype == array.dtype
    assert np.shares_memory(back, array)


@pytest.mark.parametrize("name", EXTENDED)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_short_floats_cross_bit_for_bit(name, shape):
    dtype = getattr(ml_dtypes, name)
    tensor = torch.linspace(-3, 3, steps=int(np.prod(shape))).reshape(shape).to(EXTENDED[name])
    array = to_array(tensor)
    assert array.dtype == dtype
    assert array.shape == shape
    np.testing.assert_array_equal(array.astype("f4"), tensor.to(torch.float32).numpy())
    back = from_array(array)
    assert back.dtype is EXTENDED[name]
    assert back.shape == shape
    assert back.data_ptr() == tensor.data_ptr()


def test_ragged_fields_text_and_scalars():
    batch = {"r": [np.arange(2), np.arange(3)], "s": np.array(["a", "b"]), "b": np.array([b"a"]), "n": np.array(5)}
    found = to_tensors(batch)
    assert [row.tolist() for row in found["r"]] == [[0, 1], [0, 1, 2]]
    assert all(isinstance(row, torch.Tensor) for row in found["r"])
    assert (found["s"], found["b"]) == (["a", "b"], [b"a"])
    assert found["n"].shape == ()
    assert to_tensors({"s": [np.array(["a"]), np.array(["b", "c"])]}) == {"s": [["a"], ["b", "c"]]}


def test_read_only_and_foreign_arrays_are_copied():
    array = np.arange(3, dtype=">i4")
    array.flags.writeable = False
    tensor = to_tensors({"x": array})["x"]
    tensor += 1
    assert tensor.tolist() == [1, 2, 3]
    assert array.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", ["M8[s]", "V3"])
def test_types_that_torch_has_not(dtype):
    with pytest.raises(TypeError):
        to_tensors({"x": np.zeros(2, dtype)})


def test_what_is_not_contiguous_or_needs_gradients():
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).t()
    assert to_array(tensor).tolist() == [[0, 3], [1, 4], [2, 5]]
