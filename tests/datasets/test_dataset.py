import io
import itertools
import pickle

import fsspec
import numpy as np
import pyarrow.fs as pafs
import pytest

import s3dlio
from s3dlio.checkpoint import load_state, save_state, steps
from s3dlio.datasets import dataset, list_for_workers
from s3dlio.errors import FormatError, NotFoundError, OptionError, PreconditionError
from s3dlio.formats import NpyFormat, RawFormat
from s3dlio.reading import FetchOptions
from s3dlio.storage import MemoryStore
from s3dlio.testing.faults import FaultyStore

_NAMES = itertools.count()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def place(**objects):
    """A URI with these objects below it; "__" in a name stands for a dot."""
    name = f"dataset-{next(_NAMES)}"
    store = MemoryStore(name)
    store.clear()
    for key, data in objects.items():
        store.put("d/" + key.replace("__", "."), data)
    return f"memory://{name}/d/", store


def numbers(count):
    return place(**{f"{n:03d}__npy": npy(np.arange(n)) for n in range(count)})


def test_samples_by_number():
    uri, _ = numbers(4)
    data = s3dlio.dataset(uri)
    assert len(data) == 4
    for index in range(-4, 4):
        np.testing.assert_array_equal(data[index]["data"], np.arange(index % 4))
    assert [len(sample["data"]) for sample in data] == [0, 1, 2, 3]
    assert data.uri(2) == f"{uri}002.npy"
    assert len(data[np.int64(3)]["data"]) == 3


@pytest.mark.parametrize("index", [4, -5, 100, -100])
def test_an_index_outside(index):
    uri, _ = numbers(4)
    data = s3dlio.dataset(uri)
    with pytest.raises(IndexError, match=f"sample {index}: expected -4 to 3"):
        data[index]


def test_arrays_are_read_only():
    uri, _ = numbers(4)
    assert not s3dlio.dataset(uri)[3]["data"].flags.writeable


def test_one_object_is_a_dataset_of_one_sample():
    uri, _ = numbers(4)
    data = s3dlio.dataset(f"{uri}002.npy")
    assert [len(sample["data"]) for sample in data] == [2]


def test_listing_costs_no_read_and_a_sample_costs_one():
    uri, store = numbers(4)
    data = s3dlio.dataset(uri)
    faulty = FaultyStore(store)
    counted = s3dlio.Dataset(store=faulty, manifest=data.manifest, format=data.format)
    _ = len(counted), counted.uri(1), counted.manifest.fingerprint
    assert faulty.calls == []
    _ = counted[1]
    assert [(call.verb, call.key) for call in faulty.calls] == [("get", "d/001.npy")]


def test_nothing_there_is_an_error_at_once():
    with pytest.raises(NotFoundError, match="found no objects"):
        s3dlio.dataset("memory://none-at-all/x/")


@pytest.mark.parametrize(
    ("names", "format"),
    [
        (["a.npy", "b.NPY"], NpyFormat),
        (["a.jpg", "b.jpg"], RawFormat),
        (["a", "b"], RawFormat),
        (["a.x", "b"], RawFormat),
    ],
)
def test_the_suffix_decides_the_format(names, format):
    uri, store = place()
    for name in names:
        store.put(f"d/{name}", npy(np.arange(3)))
    assert isinstance(s3dlio.dataset(uri).format, format)


def test_several_formats_need_a_choice():
    uri, _ = place(a__npy=npy(np.arange(2)), b__npz=npz(x=np.arange(2)), c__txt=b"text")
    with pytest.raises(OptionError, match=r"several formats \(\.npy, \.npz, \.txt\)") as caught:
        s3dlio.dataset(uri)
    assert caught.value.field == "format"
    assert [sample["data"].dtype for sample in s3dlio.dataset(uri, format="raw")] == ["u1"] * 3
    assert len(s3dlio.dataset(uri, pattern=r"\.npz$")) == 1


@pytest.mark.parametrize("wrong", ["tiff", NpyFormat, 3, object()])
def test_a_format_that_is_none(wrong):
    uri, _ = numbers(2)
    with pytest.raises(OptionError) as caught:
        s3dlio.dataset(uri, format=wrong)
    assert caught.value.field == "format"


def test_fields_choose_and_order():
    uri, _ = place(a__npz=npz(x=np.arange(2), y=np.arange(3), z=np.arange(4)))
    assert list(s3dlio.dataset(uri)[0]) == ["x", "y", "z"]
    assert list(s3dlio.dataset(uri, fields=["z", "x"])[0]) == ["z", "x"]
    with pytest.raises(FormatError, match=r"a\.npz: .*'x', 'y', 'z', expected 'label'") as caught:
        s3dlio.dataset(uri, fields=("x", "label"))[0]
    assert caught.value.uri == f"{uri}a.npz"


def test_fields_that_are_left_out_are_not_even_inflated():
    broken = bytearray(npz(x=np.arange(2), y=np.arange(3)))
    broken[broken.index(np.arange(3).tobytes())] ^= 1  # the first byte of y
    uri, _ = place(a__npz=bytes(broken))
    assert list(s3dlio.dataset(uri, fields=["x"])[0]) == ["x"]
    with pytest.raises(FormatError):
        s3dlio.dataset(uri)[0]


def test_a_manifest_of_another_place():
    uri, _ = numbers(3)
    listed = s3dlio.dataset(uri).manifest
    assert len(s3dlio.dataset(uri.rstrip("/"), manifest=listed)) == 3
    with pytest.raises(OptionError, match="List again") as caught:
        s3dlio.dataset(uri + "deeper/", manifest=listed)
    assert caught.value.field == "manifest"


@pytest.mark.parametrize("wrong", ["x", [], ["x", "x"]])
def test_fields_that_are_none(wrong):
    uri, _ = place(a__npz=npz(x=np.arange(2)))
    with pytest.raises(OptionError) as caught:
        s3dlio.dataset(uri, fields=wrong)
    assert caught.value.field == "fields"


@pytest.mark.parametrize("size", [0, 100, 200])
def test_an_object_that_changed_is_not_read(size):
    uri, store = numbers(3)
    data = s3dlio.dataset(uri)
    store.put("d/001.npy", b"x" * size)
    for read in (lambda: data[1], lambda: list(data.read_many([1]))):
        with pytest.raises(PreconditionError, match=f"got {size} bytes, expected 136") as caught:
            read()
        assert caught.value.uri == f"{uri}001.npy"


def test_an_object_that_went_away():
    uri, store = numbers(3)
    data = s3dlio.dataset(uri)
    store.delete("d/001.npy")
    with pytest.raises(NotFoundError, match=r"001\.npy"):
        data[1]


def test_bytes_that_do_not_decode_name_the_object():
    uri, _ = place(a__npy=npy(np.arange(9)), b__npy=npy(np.arange(9))[:-1])
    data = s3dlio.dataset(uri)
    for read in (lambda: data[1], lambda: list(data.read_many([0, 1]))):
        with pytest.raises(FormatError, match=rf"read {uri}b\.npy: decode npy") as caught:
            read()
        assert caught.value.uri == f"{uri}b.npy"
        assert caught.value.offset == 199
        assert isinstance(caught.value.__cause__, FormatError)


def test_read_many_gives_the_order_asked_for():
    uri, _ = numbers(20)
    data = s3dlio.dataset(uri)
    wanted = [19, 3, 3, 0, 7, 19]
    assert [len(sample["data"]) for sample in data.read_many(wanted)] == wanted
    assert [len(sample["data"]) for sample in data.read_many(np.array(wanted))] == wanted
    parts = FetchOptions(part_bytes=32, max_in_flight=4)
    for sample, number in zip(data.read_many(wanted, options=parts), wanted, strict=True):
        np.testing.assert_array_equal(sample["data"], np.arange(number))
        assert not sample["data"].flags.writeable
    assert list(data.read_many([])) == []


def test_read_many_checks_all_numbers_before_it_reads():
    uri, store = numbers(4)
    data = s3dlio.dataset(uri)
    faulty = FaultyStore(store)
    counted = s3dlio.Dataset(store=faulty, manifest=data.manifest, format=data.format)
    for wrong in (4, -1):
        with pytest.raises(IndexError, match=f"sample {wrong}: expected 0 to 3"):
            counted.read_many([0, wrong])
    assert faulty.calls == []


def test_read_many_fails_at_the_failed_samples_place():
    uri, store = numbers(6)
    data = s3dlio.dataset(uri)
    store.delete("d/003.npy")
    samples = data.read_many(range(6))
    assert [len(next(samples)["data"]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(NotFoundError):
        next(samples)


def test_it_pickles():
    uri, _ = numbers(4)
    twin = pickle.loads(pickle.dumps(s3dlio.dataset(uri, fields=["data"])))
    assert [len(sample["data"]) for sample in twin] == [0, 1, 2, 3]
    assert twin.manifest.fingerprint == s3dlio.dataset(uri).manifest.fingerprint


def test_a_saved_manifest_instead_of_a_listing(tmp_path):
    uri, store = numbers(4)
    data = s3dlio.dataset(uri)
    data.manifest.save(tmp_path / "m")
    store.put("d/004.npy", npy(np.arange(4)))
    assert len(s3dlio.dataset(uri)) == 5
    for manifest in (data.manifest, tmp_path / "m", str(tmp_path / "m")):
        assert len(s3dlio.dataset(uri, manifest=manifest)) == 4


def test_a_pattern_is_not_ignored_beside_a_manifest():
    uri, _ = numbers(4)
    with pytest.raises(OptionError) as caught:
        s3dlio.dataset(uri, manifest=s3dlio.dataset(uri).manifest, pattern="1")
    assert caught.value.field == "pattern"


def test_the_listing_for_workers_is_the_same(tmp_path):
    for name in ("a", "b", "_c"):
        (tmp_path / f"{name}.bin").write_bytes(name.encode())
    listed = list_for_workers(str(tmp_path), pattern="a|b|c")
    assert listed.fingerprint == s3dlio.dataset(tmp_path).manifest.fingerprint
    data = s3dlio.dataset(tmp_path, manifest=listed)
    assert [bytes(sample["data"]) for sample in data] == [b"a", b"b"]


@pytest.mark.parametrize("engine", ["native", "arrow"])
def test_on_a_server(moto_environment, engine):
    """Parts, pinned by an ETag where the engine has one, of objects that an independent client wrote."""
    prefix = f"dataset-{next(_NAMES)}"
    with moto_environment.client() as client:
        for n in range(3):
            client.put_object(Bucket=moto_environment.container, Key=f"{prefix}/{n}.npy", Body=npy(np.arange(n)))
    data = s3dlio.dataset(f"s3://{moto_environment.container}/{prefix}", storage_options={"backend": engine})
    with data.store:
        parts = FetchOptions(part_bytes=100)
        assert [len(sample["data"]) for sample in data.read_many([2, 0, 1], options=parts)] == [2, 0, 1]
        assert len(data[2]["data"]) == 2


class TestOwnFilesystem:
    """A filesystem of the caller's, in which the URI is a path."""

    @pytest.fixture(params=["pyarrow", "pyarrow relative", "fsspec"])
    def place(self, request, tmp_path):
        for index in range(5):
            np.save(tmp_path / f"{index}.npy", np.full(3, index))
        if request.param == "fsspec":
            return fsspec.filesystem("file"), str(tmp_path)
        local = pafs.LocalFileSystem()
        if request.param == "pyarrow":
            return local, str(tmp_path)
        return pafs.SubTreeFileSystem(str(tmp_path.parent), local), tmp_path.name

    def test_reads(self, place):
        filesystem, path = place
        data = dataset(path, filesystem=filesystem)
        assert [int(data[index]["data"][0]) for index in range(5)] == [0, 1, 2, 3, 4]
        assert [int(sample["data"][0]) for sample in data.read_many([4, 0])] == [4, 0]
        again = pickle.loads(pickle.dumps(data))
        assert int(again[3]["data"][0]) == 3

    def test_workers_listing(self, place):
        filesystem, path = place
        manifest = list_for_workers(path, filesystem=filesystem)
        assert len(dataset(path, filesystem=filesystem, manifest=manifest)) == 5

    def test_checkpoint(self, place):
        filesystem, path = place
        save_state(f"{path}/run", {"model": {"w": np.arange(3)}}, step=7, filesystem=filesystem)
        assert steps(f"{path}/run", filesystem=filesystem) == [7]
        loaded = load_state(f"{path}/run", filesystem=filesystem)
        assert loaded.step == 7
        assert loaded.trees["model"]["w"].tolist() == [0, 1, 2]

    def test_not_a_filesystem(self):
        with pytest.raises(OptionError, match=r"expected a pyarrow\.fs\.FileSystem or an fsspec filesystem"):
            dataset("a", filesystem="s3")
