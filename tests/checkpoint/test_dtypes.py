"""Every dtype and shape comes back bit for bit, and other tools read the files."""

import array as pyarray
import itertools
import json
import sys

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import s3dlio.checkpoint.blocks
from s3dlio.checkpoint import CheckpointOptions, create_checkpoint_reader, create_checkpoint_writer
from s3dlio.checkpoint.dtypes import dtype_name, named_dtype
from s3dlio.errors import CheckpointError, MissingExtraError
from s3dlio.storage import MemoryStore

_ML = [
    "bfloat16", "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2",
    "float8_e5m2fnuz", "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn", "int2", "int4", "uint2",
    "uint4",
]  # fmt: skip
_NUMPY = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "g", "G"]
_OTHER = ["M8[ns]", "M8[D]", "m8[us]", "S3", "U5", "V7"]
_ALL = [np.dtype(name) for name in _NUMPY + _OTHER] + [np.dtype(getattr(ml_dtypes, name)) for name in _ML]

_NAMES = itertools.count()


def _round_trip(arrays, **options):
    uri = f"memory://dtypes-{next(_NAMES)}/run"
    with create_checkpoint_writer(uri, options=CheckpointOptions(**options)) as writer:
        for name, array in arrays.items():
            writer.save_array(name, array)
    with create_checkpoint_reader(uri) as reader:
        found = reader.load_arrays()
        reader.verify()
    MemoryStore(uri.split("/")[2]).clear()
    return found


def _same_bits(found, saved):
    native = saved.dtype.newbyteorder("=")
    assert found.dtype == native
    assert found.shape == saved.shape
    assert found.flags.writeable
    if native.name in {"float128", "complex256"}:  # 6 of a long double's 16 bytes mean nothing
        np.testing.assert_array_equal(found, saved)
    else:
        assert found.tobytes() == saved.astype(native).tobytes()


@pytest.mark.parametrize("dtype", _ALL, ids=str)
def test_every_dtype(dtype):
    bits = np.random.default_rng(0).integers(0, 256, 24 * dtype.itemsize, np.uint8)
    full = (bits & 1 if dtype.kind == "b" else bits).view(dtype).reshape(2, 3, 4)
    if dtype.name in {"float128", "complex256"}:
        full = np.arange(24).reshape(2, 3, 4).astype(dtype) / 7
    if dtype.kind == "U":
        full = np.array([f"é{i}" for i in range(24)], dtype).reshape(2, 3, 4)
    arrays = {"full": full, "scalar": full[1, 2, 3].reshape(()), "empty": full[:, :0], "none": full[:0]}
    arrays |= {"transposed": full.T, "strided": full[::-1, ::2, 1::2]}
    for buffer_bytes in (0, 1 << 20):
        found = _round_trip(arrays, buffer_bytes=buffer_bytes)
        assert found.keys() == arrays.keys()
        for name, array in arrays.items():
            _same_bits(found[name], array)


def test_dtypes_have_names_of_their_own():
    names = [dtype_name(dtype) for dtype in _ALL]
    assert len(set(names)) == len(names)
    assert [named_dtype(name) for name in names] == _ALL


_DTYPES = st.one_of(
    npst.boolean_dtypes(), npst.integer_dtypes(endianness="?"), npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?"), npst.complex_number_dtypes(endianness="?"),
    npst.datetime64_dtypes(endianness="?"), npst.timedelta64_dtypes(endianness="?"),
    npst.byte_string_dtypes(min_len=1, max_len=5), npst.unicode_string_dtypes(endianness="?", min_len=1, max_len=3),
)  # fmt: skip


# Hypothesis tries constants of the code under test, and finds the one name that is refused.
_ARRAY_NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "__metadata__")


@st.composite
def _arrays(draw):
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    array = draw(npst.arrays(draw(_DTYPES), shape))
    array = array.transpose(draw(st.permutations(range(array.ndim))))
    if draw(st.booleans()):
        array = array[(..., *(slice(None, None, draw(st.sampled_from([1, 2, -1]))) for _ in array.shape))]
    return np.broadcast_to(array, (2, *array.shape)) if draw(st.booleans()) else array


@given(
    st.dictionaries(_ARRAY_NAMES, _arrays(), min_size=1, max_size=5),
    st.sampled_from([0, 64, 1 << 20]),
    st.sampled_from([1, 100, 1 << 20]),
    st.sampled_from([16, 64, 1 << 20]),
)
def test_any_arrays_come_back(arrays, buffer_bytes, shard_bytes, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3dlio.checkpoint.blocks, "BLOCK_BYTES", block_bytes)
        found = _round_trip(arrays, buffer_bytes=buffer_bytes, shard_bytes=shard_bytes)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        _same_bits(found[name], array)


def test_an_array_of_several_blocks():
    array = np.random.default_rng(0).integers(0, 2**63, (40 << 20) // 8)
    _same_bits(_round_trip({"w": array}, buffer_bytes=0)["w"], array)
    _same_bits(_round_trip({"w": array.reshape(1 << 10, -1).T})["w"], array.reshape(1 << 10, -1).T)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"ab\0", np.frombuffer(b"ab\0", np.uint8)),
        (b"", np.empty(0, np.uint8)),
        (bytearray(b"abc"), np.frombuffer(b"abc", np.uint8)),
        (memoryview(b"abc"), np.frombuffer(b"abc", np.uint8)),
        (pa.py_buffer(b"abc"), np.frombuffer(b"abc", np.uint8)),
        (pyarray.array("d", [1, 2]), np.array([1.0, 2.0])),
        (pa.array([1, 2, 3]), np.array([1, 2, 3])),
        (torch.arange(6.0).reshape(2, 3).T, np.arange(6, dtype=np.float32).reshape(2, 3).T),
        (np.float32(2.5), np.array(2.5, np.float32)),
        (np.bytes_(b"ab"), np.array(b"ab")),
        (np.arange(3).view(type("Sub", (np.ndarray,), {})), np.arange(3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_counts_as_an_array(value, expected):
    found = _round_trip({"w": value})["w"]
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected, strict=True)


def test_what_has_only_dlpack_counts_as_an_array():
    class Exporter:
        def __init__(self, array):
            self._array = array

        def __dlpack__(self, **options):
            return self._array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self._array.__dlpack_device__()

    np.testing.assert_array_equal(_round_trip({"w": Exporter(np.arange(4))})["w"], np.arange(4), strict=True)


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}], object),
        *([np.array(["a"], np.dtypes.StringDType())] if hasattr(np.dtypes, "StringDType") else []),  # NumPy 2
        np.zeros(2, [("a", "i4")]),
        np.ma.masked_array([1, 2], [0, 1]),
        torch.ones(2, requires_grad=True),
        torch.ones(2, dtype=torch.bfloat16),
        torch.ones(2).to_sparse(),
        [1, 2],
        {"a": 1},
        "text",
        1.5,
        None,
        object(),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_what_does_not_count_is_refused_and_named(value, memory_place):
    with create_checkpoint_writer(memory_place.uri) as writer:
        with pytest.raises(CheckpointError, match="save_array 'layer/w'"):
            writer.save_array("layer/w", value)
        writer.save_object("still", "usable")


def test_without_ml_dtypes_the_error_says_what_to_install(memory_place, monkeypatch):
    with create_checkpoint_writer(memory_place.uri) as writer:
        writer.save_array("bf16", np.ones(3, ml_dtypes.bfloat16))
        writer.save_array("f32", np.ones(3, np.float32))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with create_checkpoint_reader(memory_place.uri) as reader:
        assert reader.load_array("f32").sum() == 3
        with pytest.raises(MissingExtraError, match="pip install --upgrade ml-dtypes"):
            reader.load_array("bf16")


def _shards(place):
    return {path: data for path, data in place.files().items() if path.endswith(".safetensors")}


def test_the_safetensors_library_agrees(memory_place):
    types = {"f8": ml_dtypes.float8_e4m3fn, "f8b": ml_dtypes.float8_e5m2, "bf16": ml_dtypes.bfloat16}
    saved = {name: np.arange(7).astype(dtype) for name, dtype in types.items()}
    saved |= {np.dtype(code).name: np.arange(6).reshape(2, 3).astype(code) for code in _NUMPY[:13]}
    saved |= {"0-d": np.array(3.5), "empty": np.zeros((2, 0), np.int16), 'naïve "name"/0': np.arange(3)}
    with create_checkpoint_writer(memory_place.uri) as writer:
        writer.save_arrays(saved)
        writer.save_array("complex128", np.array([1 + 2j]))
    (data,) = _shards(memory_place).values()
    found = safetensors.torch.load(data)
    assert found.keys() == {*saved, "complex128"}
    for name, array in saved.items():
        tensor = found[name]
        assert tuple(tensor.shape) == array.shape
        assert tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() == array.tobytes()
        assert str(tensor.dtype).removeprefix("torch.") == array.dtype.name
    assert found["complex128"].numpy().tobytes() == np.array([1 + 2j]).tobytes()
    assert found["complex128"].dtype == torch.uint8


def test_the_header_is_padded_and_arrays_are_aligned(memory_place):
    with create_checkpoint_writer(memory_place.uri) as writer:
        for index, code in enumerate(_NUMPY):
            writer.save_array(f"w{index}", np.ones(3, code))
    (data,) = _shards(memory_place).values()
    size = int.from_bytes(data[:8], "little")
    assert (8 + size) % 64 == 0
    header = json.loads(data[8 : 8 + size])
    for index, code in enumerate(_NUMPY):
        begin, _ = header[f"w{index}"]["data_offsets"]
        itemsize = np.dtype(code).itemsize
        assert begin % (itemsize & -itemsize) == 0


def test_files_are_cut_at_the_shard_size_and_each_is_whole(memory_place):
    saved = {f"w{index}": np.full(100, index, np.int64) for index in range(10)}
    with create_checkpoint_writer(
        memory_place.uri, options=CheckpointOptions(buffer_bytes=0, shard_bytes=1700)
    ) as writer:
        writer.save_arrays(saved)
    shards = _shards(memory_place)
    assert [path.rpartition("/")[2] for path in shards] == [f"r00000-{n:03d}.safetensors" for n in range(5)]
    found = {}
    for data in shards.values():
        found |= safetensors.torch.load(data)
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: array.tolist() for name, array in saved.items()
    }
