from __future__ import annotations

import io
import pickle
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from s3dlio.errors import FormatError, OptionError
from s3dlio.formats import NpzFormat
from s3dlio.testing.formats import FormatSuite, assert_same_sample, every_kind_of_array

SMALL = {"x": np.arange(3, dtype="<i2"), "y": np.array([True])}


def npz(arrays, *, save=np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def decode(data: bytes, **options):
    return NpzFormat(**options).decode(pa.py_buffer(data))


class TestStored(FormatSuite):
    format = NpzFormat()
    checksummed = True

    def samples(self):
        return [(npz(arrays), arrays) for arrays in (SMALL, {}, every_kind_of_array())]


class TestDeflated(FormatSuite):
    format = NpzFormat()
    checksummed = True

    def samples(self):
        arrays = every_kind_of_array() | {"zeros": np.zeros(100_000)}
        return [(npz(arrays, save=np.savez_compressed), arrays) for arrays in (SMALL, arrays)]


class TestUnverified(FormatSuite):
    """Without checksums flips may pass, but nothing else may change."""

    format = NpzFormat(verify=False)

    def samples(self):
        return [(npz(SMALL), SMALL), (npz(SMALL, save=np.savez_compressed), SMALL)]


class TestSelected(FormatSuite):
    format = NpzFormat(fields=("y", "x"))
    checksummed = True

    def samples(self):
        return [(npz(SMALL | {"z": np.zeros(2)}), {"y": SMALL["y"], "x": SMALL["x"]})]


class Test64BitArchive(FormatSuite):
    """Sizes, counts and offsets in their wide fields, as in archives above 4 GiB."""

    format = NpzFormat()
    checksummed = True

    def samples(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zipfile, "ZIP64_LIMIT", 10)
            patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
            data = npz(SMALL)
        assert b"PK\x06\x06" in data
        return [(data, SMALL)]


@given(
    st.dictionaries(
        st.from_regex(r"\A[a-z_]{1,8}\Z"),
        hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)),
        max_size=4,
    )
)
def test_any_arrays_of_numpy(arrays):
    arrays.pop("file", None)
    for save in (np.savez, np.savez_compressed):
        data = npz(arrays, save=save)
        assert_same_sample(decode(data), arrays)
        assert_same_sample(decode(data), dict(np.load(io.BytesIO(data))))


def test_stored_arrays_are_views_of_the_buffer():
    array = np.arange(1000.0)
    raw = npz({"a": np.zeros(3, np.uint8), "b": array})
    buffer = pa.py_buffer(raw)
    sample = NpzFormat().decode(buffer)
    for name, expected in (("a", np.zeros(3, np.uint8)), ("b", array)):
        start = raw.index(npy(expected)) + 128
        assert sample[name].ctypes.data == buffer.address + start
        assert np.shares_memory(sample[name], np.frombuffer(buffer, np.uint8))


def test_unaligned_views_are_fit_for_numpy():
    """The archive decides the alignment; whatever it is, arithmetic and copies are right."""
    aligned = set()
    for length in range(1, 9):
        sample = decode(npz({"n" * length: np.arange(100.0)}))
        (array,) = sample.values()
        aligned.add(array.flags.aligned)
        assert array.sum() == 4950
        assert array.copy().flags.aligned
        assert np.require(array, requirements="A").tolist() == list(range(100))
    assert False in aligned


def test_deflated_arrays_do_not_hold_the_buffer():
    raw = npz({"a": np.zeros(1000)}, save=np.savez_compressed)
    buffer = pa.py_buffer(raw)
    array = NpzFormat().decode(buffer)["a"]
    assert not np.shares_memory(array, np.frombuffer(buffer, np.uint8))
    assert array.flags.aligned


def test_fields_select_and_order():
    data = npz({"a": np.array(1), "b": np.array(2), "c": np.array(3)})
    assert list(decode(data)) == ["a", "b", "c"]
    assert {name: int(array) for name, array in decode(data, fields=("c", "a")).items()} == {"c": 3, "a": 1}


def test_a_missing_field_names_those_there_are():
    with pytest.raises(FormatError, match="arrays 'x', 'y', expected 'label'") as caught:
        decode(npz(SMALL), fields=("x", "label"))
    assert caught.value.offset == -1
    with pytest.raises(FormatError, match="arrays none, expected 'x'"):
        decode(npz({}), fields=("x",))


def test_members_that_are_not_wanted_are_not_looked_into():
    objects = np.array([None], dtype=object)
    data = zipped({"x.npy": npy(SMALL["x"]), "readme.txt": b"hello", "o.npy": npy(objects)})
    assert_same_sample(decode(data, fields=("x",)), {"x": SMALL["x"]})
    with pytest.raises(FormatError, match=r"member 'readme.txt': decode npy at byte \d+: starts with b'hello'"):
        decode(data)


def test_a_member_without_suffix_keeps_its_name():
    assert_same_sample(decode(zipped({"x": npy(SMALL["x"])})), {"x": SMALL["x"]})
    assert_same_sample(decode(zipped({"a/x.npy": npy(SMALL["x"])})), {"a/x": SMALL["x"]})


def test_two_members_of_one_name_are_refused():
    with pytest.raises(FormatError, match="a second array 'x'"):
        decode(zipped({"x": npy(SMALL["x"]), "x.npy": npy(SMALL["x"])}))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_python_objects_are_refused_by_name(save):
    data = npz({"ok": np.arange(3), "names": np.array(["a", None], dtype=object)}, save=save)
    with pytest.raises(FormatError, match=r"member 'names\.npy': .*Python objects.*never read"):
        decode(data)
    assert list(decode(data, fields=("ok",))) == ["ok"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_errors_inside_a_member_point_into_the_object(method):
    inner = npy(np.arange(10))[:-1]
    data = zipped({"x.npy": inner}, method)
    with pytest.raises(FormatError, match=r"member 'x\.npy': .*79 bytes of data, expected 80") as caught:
        decode(data)
    start = 30 + len("x.npy")
    assert caught.value.offset == (start + len(inner) if method == zipfile.ZIP_STORED else start)


def test_a_member_may_not_hold_more_than_its_array():
    with pytest.raises(FormatError, match="25 bytes of data, expected 24"):
        decode(zipped({"x.npy": npy(np.arange(3)) + b"\0"}))


def test_verify_decides_whether_flips_are_found():
    raw = npz({"a": np.arange(1000)})
    at = raw.index(npy(np.arange(1000))) + 500
    flipped = raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]
    with pytest.raises(FormatError, match="CRC-32"):
        decode(flipped)
    assert (decode(flipped, verify=False)["a"] != np.arange(1000)).sum() == 1


@pytest.mark.parametrize("fields", ["data", (), ("a", "a")])
def test_fields_must_be_distinct_names(fields):
    with pytest.raises(OptionError, match=r"NpzFormat\.fields") as caught:
        NpzFormat(fields=fields)
    assert caught.value.field == "fields"


def test_options_survive_pickling_and_the_cache_does_not():
    npzs = NpzFormat(verify=False, fields=["y"])
    npzs.decode(pa.py_buffer(npz(SMALL)))
    twin = pickle.loads(pickle.dumps(npzs))
    assert twin == npzs == NpzFormat(verify=False, fields=("y",))
    assert npzs._layouts
    assert not twin._layouts
