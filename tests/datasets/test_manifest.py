import hashlib
import itertools
import pickle

import pyarrow as pa
import pytest

from s3dlio.datasets import Manifest
from s3dlio.errors import FormatError, NotFoundError, OptionError
from s3dlio.storage import LocalStore, MemoryStore

_NAMES = itertools.count()


@pytest.fixture
def store():
    found = MemoryStore(f"manifest-{next(_NAMES)}")
    found.clear()
    return found


def filled(store, *keys):
    for key in keys:
        store.put(key, b"x" * len(key))
    return store


def keys(manifest):
    return [manifest.key(index) for index in range(len(manifest))]


def test_objects_below_the_prefix_sorted_by_key(store):
    filled(store, "d/b", "d/a/z", "d/a0", "d/B", "d/\u00fc", "d/\U0001f40d", "d/\uffff", "dd", "e/d/a", "d2/x")
    expected = sorted(["d/b", "d/a/z", "d/a0", "d/B", "d/\u00fc", "d/\U0001f40d", "d/\uffff"], key=str.encode)
    for prefix in ("d", "d/"):
        manifest = Manifest.from_listing(store, prefix)
        assert keys(manifest) == expected
        assert [manifest.size(i) for i in range(len(manifest))] == [len(key) for key in expected]
        assert manifest.root == "d/"
        assert len(manifest) == len(expected)


def test_the_whole_container(store):
    manifest = Manifest.from_listing(filled(store, "b", "a/c"), "")
    assert keys(manifest) == ["a/c", "b"]
    assert manifest.root == ""


def test_hidden_objects_and_what_is_in_hidden_directories_are_left_out(store):
    filled(store, "d/a", "d/_SUCCESS", "d/.a.crc", "d/s/._part", "d/_temporary/0/part", "d/.git/config", "d/s/a_b.c")
    assert keys(Manifest.from_listing(store, "d")) == ["d/a", "d/s/a_b.c"]


def test_a_root_below_a_hidden_directory_is_not_hidden(store):
    assert keys(Manifest.from_listing(filled(store, "_v1/.cache/a", "_v1/.cache/_b"), "_v1/.cache")) == ["_v1/.cache/a"]


def test_pattern_is_searched_in_the_key_below_the_prefix(store):
    filled(store, "train/1.npy", "train/1.txt", "train/train.txt", "train/s/2.npy")
    assert keys(Manifest.from_listing(store, "train", pattern=r"\.npy$")) == ["train/1.npy", "train/s/2.npy"]
    assert keys(Manifest.from_listing(store, "train", pattern="train")) == ["train/train.txt"]
    assert keys(Manifest.from_listing(store, "train", pattern=r"^\d")) == ["train/1.npy", "train/1.txt"]


@pytest.mark.parametrize("wrong", ["(", "[a", "(?<=a)b"])
def test_a_pattern_that_is_none(store, wrong):
    filled(store, "d/a")
    with pytest.raises(OptionError, match="pattern: got") as caught:
        Manifest.from_listing(store, "d", pattern=wrong)
    assert caught.value.field == "pattern"


def test_a_single_object(store):
    filled(store, "d/a.npy", "d/b.npy")
    manifest = Manifest.from_listing(store, "d/a.npy")
    assert keys(manifest) == ["d/a.npy"]
    assert manifest.root == "d/"
    assert manifest.fingerprint == Manifest.from_listing(store, "d", pattern="^a").fingerprint


@pytest.mark.parametrize("prefix", ["", "/", "x", "x/", "d/a/", "d/a/b"])
def test_nothing_there(store, prefix):
    if prefix:
        filled(store, "d/a")
    if prefix == "/":
        assert keys(Manifest.from_listing(store, prefix)) == ["d/a"]
        return
    with pytest.raises(NotFoundError, match="found no objects, expected at least one") as caught:
        Manifest.from_listing(store, prefix)
    assert caught.value.uri.startswith(store.uri(""))
    assert caught.value.operation == "list"


def test_nothing_that_matches(store):
    filled(store, "d/a", "d/_b")
    with pytest.raises(NotFoundError, match="found 2 objects, none that match"):
        Manifest.from_listing(store, "d", pattern="c")


def test_the_store_says_that_there_is_no_container():
    class NoBucket(MemoryStore):
        def list(self, prefix=""):
            raise NotFoundError("list s3://b/: no such bucket", uri="s3://b/")

    with pytest.raises(NotFoundError, match="no such bucket"):
        Manifest.from_listing(NoBucket("none"), "d")


def blake(lines):
    return hashlib.blake2b("".join(lines).encode(), digest_size=16, person=b"s3dlio-manifest").hexdigest()


def test_the_fingerprint_is_over_keys_below_the_root_and_sizes(store):
    filled(store, "d/b", "d/a", "d/\u00fc")
    fingerprint = Manifest.from_listing(store, "d").fingerprint
    assert fingerprint == blake(["3\ta\n", "3\tb\n", "3\t\u00fc\n"])
    assert fingerprint == "3f23aed701cbc2ef2f3439b03165007e", "saved states hold it: it may never change"


def test_a_copy_elsewhere_has_the_same_fingerprint(store, tmp_path):
    filled(store, "train/a", "train/s/b")
    fingerprint = Manifest.from_listing(store, "train").fingerprint
    with LocalStore() as local:
        for name in ("a", "s/b"):
            local.put(f"{str(tmp_path)[1:]}/{name}", b"x" * len(f"train/{name}"))
        assert Manifest.from_listing(local, str(tmp_path)[1:]).fingerprint == fingerprint


def test_changed_data_has_another_fingerprint(store):
    filled(store, "d/a", "d/b")
    seen = {Manifest.from_listing(store, "d").fingerprint}
    store.put("d/a", b"1234")
    seen.add(Manifest.from_listing(store, "d").fingerprint)
    store.put("d/c", b"")
    seen.add(Manifest.from_listing(store, "d").fingerprint)
    store.delete("d/b")
    seen.add(Manifest.from_listing(store, "d").fingerprint)
    assert len(seen) == 4
    store.put("d/a", b"4321")
    assert Manifest.from_listing(store, "d").fingerprint in seen, "same keys, same sizes"


def test_saved_and_mapped(store, tmp_path):
    manifest = Manifest.from_listing(filled(store, "d/a", "d/\u00fc"), "d")
    manifest.save(tmp_path / "m.arrow")
    before = pa.total_allocated_bytes()
    loaded = Manifest.load(str(tmp_path / "m.arrow"))
    assert pa.total_allocated_bytes() == before, "mapped, not copied"
    assert keys(loaded) == keys(manifest)
    assert loaded.root == manifest.root
    assert loaded.fingerprint == manifest.fingerprint
    assert loaded.table.equals(manifest.table)


def test_what_is_no_manifest_is_refused(store, tmp_path):
    manifest = Manifest.from_listing(filled(store, "d/a"), "d")
    path = tmp_path / "m.arrow"
    manifest.save(path)
    data = path.read_bytes()
    for number, wrong in enumerate(
        [b"", b"x", b"no manifest at all" * 20, data[:-20], data[: len(data) // 2], data[8:]]
    ):
        other = tmp_path / f"{number}.arrow"
        other.write_bytes(wrong)
        with pytest.raises(FormatError, match="load manifest") as caught:
            Manifest.load(other)
        assert caught.value.uri == str(other)
    with pytest.raises(FileNotFoundError):
        Manifest.load(tmp_path / "none.arrow")


@pytest.mark.parametrize("metadata", [{}, {b"s3dlio.manifest": b"2", b"s3dlio.root": b""}, {b"s3dlio.manifest": b"1"}])
def test_another_version_is_refused(store, tmp_path, metadata):
    table = Manifest.from_listing(filled(store, "d/a"), "d").table.replace_schema_metadata(metadata)
    with pa.OSFile(str(tmp_path / "m"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(FormatError, match="Build it again"):
        Manifest.load(tmp_path / "m")


def test_it_pickles_also_when_mapped(store, tmp_path):
    manifest = Manifest.from_listing(filled(store, "d/a", "d/b"), "d")
    manifest.save(tmp_path / "m")
    for each in (manifest, Manifest.load(tmp_path / "m")):
        twin = pickle.loads(pickle.dumps(each))
        assert keys(twin) == ["d/a", "d/b"]
        assert (twin.root, twin.fingerprint) == (manifest.root, manifest.fingerprint)
        assert twin.table.equals(manifest.table)


def test_many_batches_and_100_000_keys(tmp_path):
    count = 100_000

    class Listing(MemoryStore):
        def list(self, prefix=""):
            for low in range(0, count, 1000):
                numbers = [(7919 * n) % count for n in range(low, low + 1000)]
                yield pa.record_batch(
                    {
                        "key": [f"d/{n:06d}" for n in numbers],
                        "size": pa.array(numbers, pa.int64()),
                        "etag": pa.nulls(1000, pa.string()),
                        "mtime": pa.nulls(1000, pa.timestamp("us", tz="UTC")),
                    }
                )

    manifest = Manifest.from_listing(Listing("many"), "d")
    assert keys(manifest)[::9999] == [f"d/{n:06d}" for n in range(0, count, 9999)]
    assert manifest.fingerprint == blake(f"{n}\t{n:06d}\n" for n in range(count))
    manifest.save(tmp_path / "m")
    assert Manifest.load(tmp_path / "m").fingerprint == manifest.fingerprint


def test_its_repr_names_the_root(store):
    assert repr(Manifest.from_listing(filled(store, "d/a"), "d")) == "Manifest(1 objects below 'd/')"
