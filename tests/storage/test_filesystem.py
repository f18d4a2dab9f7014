"""The handler between a store and pyarrow, where it differs from a file system."""

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from s3dlio.errors import ClosedError, NotFoundError, PreconditionError, StorageError
from s3dlio.storage import MemoryStore, open_store
from s3dlio.storage.arrow.filesystem import StoreHandler
from s3dlio.storage.writer import SinkWriter

from .recording_server import BODY, RecordingServer


@pytest.fixture
def store():
    with MemoryStore("filesystem") as store:
        store.put("dir/a", b"abcdefgh")
        store.put("dir/sub/b", b"12")
        yield store
        store.clear()


@pytest.fixture
def filesystem(store):
    return store.filesystem


def test_file_info(filesystem):
    found = filesystem.get_file_info(["dir/a", "dir", "dir/sub/", "none", ""])
    kinds = pafs.FileType
    assert [info.type for info in found] == [
        kinds.File,
        kinds.Directory,
        kinds.Directory,
        kinds.NotFound,
        kinds.Directory,
    ]
    assert found[0].size == 8
    assert found[0].mtime is not None


def test_selectors(filesystem):
    def paths(**keywords):
        return [(info.path, info.is_file) for info in filesystem.get_file_info(pafs.FileSelector(**keywords))]

    assert paths(base_dir="dir") == [("dir/a", True), ("dir/sub", False)]
    assert paths(base_dir="dir", recursive=True) == [("dir/a", True), ("dir/sub", False), ("dir/sub/b", True)]
    assert paths(base_dir="") == [("dir", False)]
    assert paths(base_dir="none", allow_not_found=True) == []
    with pytest.raises(FileNotFoundError):
        paths(base_dir="none")


def test_random_access(filesystem):
    with filesystem.open_input_file("dir/a") as file:
        assert file.size() == 8
        assert file.read_at(3, 2) == b"cde"
        file.seek(6)
        assert file.read(100) == b"gh"
        assert file.read(100) == b""
        file.seek(0)
        assert file.read_buffer(2).to_pybytes() == b"ab"
    with filesystem.open_input_stream("dir/a") as stream:
        assert stream.readall() == b"abcdefgh"
    with pytest.raises(NotFoundError):
        filesystem.open_input_file("none")


def test_an_open_file_is_one_version(store, filesystem):
    with filesystem.open_input_file("dir/a") as file:
        store.put("dir/a", b"changed!")
        with pytest.raises(PreconditionError):
            file.read(4)


def test_writing(store, filesystem):
    with filesystem.open_output_stream("new/x") as stream:
        stream.write(b"one")
        stream.write(b"two")
        assert stream.tell() == 6
    assert store.get("new/x").to_pybytes() == b"onetwo"
    with pytest.raises(NotImplementedError):
        filesystem.open_append_stream("new/x")


def test_moving_copying_deleting(store, filesystem):
    filesystem.copy_file("dir/a", "c")
    filesystem.move("c", "d")
    assert store.get("d").size == 8
    filesystem.delete_file("d")
    for path in ("d", "c"):
        with pytest.raises(FileNotFoundError):
            filesystem.delete_file(path)
    filesystem.create_dir("empty")
    filesystem.delete_dir("dir/sub")
    assert filesystem.get_file_info("dir/sub").type == pafs.FileType.NotFound
    filesystem.delete_dir_contents("dir")
    filesystem.delete_dir_contents("/", accept_root_dir=True)
    assert [*store.list()] == []


def test_moving_onto_itself(store, filesystem):
    filesystem.move("dir/a", "/dir/a/")
    assert store.get("dir/a").size == 8
    with pytest.raises(NotFoundError):
        filesystem.move("none", "none")


def test_what_cannot_be_published_is_an_error():
    store = MemoryStore("closed-early")
    stream = store.filesystem.open_output_stream("x")
    stream.write(b"some bytes")
    store.close()
    with pytest.raises(ClosedError):
        stream.close()


def test_a_file_whose_write_failed_closes(store, monkeypatch):
    """The failure was reported; pyarrow closes the file on its way out."""
    stream = store.filesystem.open_output_stream("x")
    stream.write(b"some")
    monkeypatch.setattr(SinkWriter, "write", fail)
    with pytest.raises(StorageError, match="broken"):
        stream.write(b"bytes")
    stream.close()


def fail(writer, _data):
    writer.abort()
    raise StorageError("broken", uri="memory://filesystem/x", operation="write")


def test_partitioned_dataset(store, filesystem):
    table = pa.table({"x": range(100), "part": ["a", "b"] * 50})
    pads.write_dataset(table, "parts", filesystem=filesystem, format="parquet", partitioning=["part"])
    found = pads.dataset("parts", filesystem=filesystem, format="parquet", partitioning=["part"])
    assert found.count_rows() == 100
    assert sorted(found.to_table()["x"].to_pylist()) == list(range(100))


def test_equality(store, filesystem):
    with MemoryStore("filesystem") as again, MemoryStore("another") as other:
        assert again.filesystem.equals(filesystem)
        assert not other.filesystem.equals(filesystem)
    assert hash(filesystem.handler) == hash(store.filesystem.handler)


def test_copying_between_buckets_of_one_name():
    """pyarrow copies inside of a filesystem where source and target are equal."""
    keys = {"access_key_id": "K", "secret_access_key": "s", "backend": "arrow"}
    with RecordingServer() as here, RecordingServer() as there:
        source = open_store("s3://bucket", endpoint_url=here.endpoint_url, **keys)
        target = open_store("s3://bucket", endpoint_url=there.endpoint_url, **keys)
        again = open_store("s3://bucket", endpoint_url=here.endpoint_url, **keys)
        with source, target, again:
            one, other = (StoreHandler(store) for store in (source, target))
            assert one != other
            assert one == StoreHandler(again)
            files = [pafs.PyFileSystem(handler) for handler in (one, other)]
            pafs.copy_files("a", "b", source_filesystem=files[0], destination_filesystem=files[1], use_threads=False)
    assert {request.method for request in here.requests} <= {"GET", "HEAD"}
    assert [(request.target, request.body) for request in there.requests if request.method == "PUT"] == [
        ("/bucket/b", BODY)
    ]


def test_parquet_row_group_is_read_in_ranges(store, filesystem, monkeypatch):
    """Not the whole object: footer and the column chunks that are asked for."""
    pq.write_table(
        pa.table({"x": range(200_000), "y": range(200_000)}), "t", filesystem=filesystem, row_group_size=20_000
    )
    size, read = store.head("t").size, []
    real = MemoryStore.get_range

    def counting(self, key, start, end, *, etag=None):
        read.append(end - start)
        return real(self, key, start, end, etag=etag)

    monkeypatch.setattr(MemoryStore, "get_range", counting)
    with pq.ParquetFile("t", filesystem=filesystem) as file:
        assert file.read_row_group(3, columns=["x"])["x"][0].as_py() == 60_000
    assert sum(read) < size / 4
