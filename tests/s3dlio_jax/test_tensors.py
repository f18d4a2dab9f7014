import jax
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from s3dlio.arrays import allocate
from s3dlio.errors import FormatError, OptionError
from s3dlio_jax.tensors import Placement, default_sharding

ONE = SingleDeviceSharding(jax.devices()[0])


def placement(sample, sharding=ONE):
    return Placement(sharding, sample=sample, uri="memory://first")


def placed(array):
    return placement({"x": array[0]}).arrays({"x": array}, name=str)["x"]


@pytest.mark.parametrize("dtype", ["bool", "i1", "u1", "i2", "u2", "i4", "u4", "f2", "f4", "c8", ml_dtypes.bfloat16])
def test_aligned_memory_is_shared(dtype):
    array = allocate((4, 3), np.dtype(dtype))
    array[...] = np.eye(4, 3)
    found = placed(array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.unsafe_buffer_pointer() == array.ctypes.data
    assert np.asarray(found).tobytes() == array.tobytes()


@pytest.mark.parametrize(("dtype", "expected"), [("i8", "int32"), ("u8", "uint32"), ("f8", "float32")])
def test_64_bits_become_32_as_in_jax(dtype, expected):
    found = placed(np.arange(6, dtype=dtype).reshape(2, 3))
    assert found.dtype == expected
    assert np.asarray(found).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_an_empty_batch_keeps_its_shape():
    assert placed(np.zeros((2, 3), np.float32)).shape == (2, 3)
    found = placement({"x": np.zeros(3, np.float32)}).arrays({"x": np.zeros((0, 3), np.float32)}, name=str)["x"]
    assert found.shape == (0, 3)


def test_a_sharding_longer_than_a_field_is_truncated():
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    sharding = NamedSharding(mesh, PartitionSpec("data", None, "model"))
    sample = {"image": np.zeros((2, 2), np.float32), "label": np.int32(0)[()] * np.ones((), np.int32)}
    batch = {"image": np.zeros((4, 2, 2), np.float32), "label": np.zeros(4, np.int32)}
    found = placement(sample, sharding).arrays(batch, name=str)
    assert found["image"].sharding.spec == PartitionSpec("data", None, "model")
    assert found["label"].sharding.spec == PartitionSpec("data")


def test_a_sharding_for_each_field():
    sample = {"a": np.zeros(2, np.float32), "b": np.zeros((), np.float32)}
    assert set(placement(sample, {"a": ONE, "b": ONE})._shardings) == {"a", "b"}
    with pytest.raises(OptionError, match="for a, expected for a, b"):
        placement(sample, {"a": ONE})
    with pytest.raises(OptionError, match="expected for a, b"):
        placement(sample, {"a": ONE, "b": ONE, "c": ONE})


@pytest.mark.parametrize("value", [np.array("text"), np.array(b"bytes"), np.array("2020-01-01", "M8[D]")])
def test_what_jax_lacks_is_an_error(value):
    with pytest.raises(FormatError, match=r"memory://first: field 'x' is .*expected a dtype that JAX has"):
        placement({"x": value})


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([np.zeros(3, np.float32), np.zeros(2, np.float32)], r"read row 1: field 'x' is float32 \(2,\)"),
        (np.zeros((2, 4), np.float32), r"read row 0: field 'x' is float32 \(4,\)"),
        (np.zeros((2, 3), np.int32), r"read row 0: field 'x' is int32"),
        (None, r"read row 0: field 'x' is missing"),
    ],
)
def test_a_row_unlike_the_first_sample_is_named(rows, found):
    batch = {} if rows is None else {"x": rows}
    with pytest.raises(FormatError, match=found) as caught:
        placement({"x": np.zeros(3, np.float32)}).arrays(batch, name=lambda row: f"row {row}")
    assert caught.value.uri.startswith("row ")


def test_the_default_is_all_devices():
    assert default_sharding().device_set == set(jax.devices())
