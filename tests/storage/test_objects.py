import datetime as dt
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from s3dlio.errors import (
    AccessError,
    ExistsError,
    NotFoundError,
    OptionError,
    PreconditionError,
    ShortReadError,
    StorageError,
)
from s3dlio.storage import MemoryStore, objects
from s3dlio.storage.object_read import PART_BYTES
from s3dlio.storage.operation_log.format import read_op_log
from s3dlio.storage.operation_log.log import op_log
from s3dlio.uri import Uri

from ..servers.fault_actions import run_before, status


@pytest.fixture(
    params=[
        "memory",
        "file",
        "moto",
        "moto on arrow",
        *(pytest.param(name, marks=pytest.mark.servers) for name in ("radosgw", "azurite", "google")),
    ]
)
def base(request, tmp_path, monkeypatch):
    """The URI of an empty directory."""
    if request.param == "memory":
        yield "memory://objects/base"
        MemoryStore("objects").clear()
    elif request.param == "file":
        yield tmp_path.as_uri()
    else:
        name, _, engine = request.param.partition(" on ")
        server = request.getfixturevalue(f"{name}_environment")
        if engine:
            monkeypatch.setenv("S3DLIO_BACKEND", engine)
        yield f"{server.scheme}://{server.new_container()}/base"


def test_get_and_put(base):
    uri = f"{base}/x.bin"
    meta = objects.put_bytes(uri, b"content")
    assert meta.size == 7
    assert uri.endswith(meta.key)
    found = objects.get(uri)
    assert isinstance(found, bytes)
    assert found == b"content"
    assert found.memoryview() == b"content"
    assert found.memoryview().readonly
    assert type(found.to_bytes()) is bytes
    assert found.to_bytes() == b"content"
    assert pickle.loads(pickle.dumps(found)) == found
    buffer = objects.get_buffer(uri)
    assert isinstance(buffer, pa.Buffer)
    assert buffer.to_pybytes() == b"content"
    with pytest.raises(ExistsError):
        objects.put_bytes(uri, b"other", mode="create")


def test_list(base):
    for name in ("b.npz", "a.npz", "d/c.npz", "d/e/f.txt"):
        objects.put_bytes(f"{base}/{name}", name.encode())
    found = objects.list(base)
    assert found == [f"{base}/{name}" for name in ("a.npz", "b.npz", "d/c.npz", "d/e/f.txt")]
    assert found == objects.list(f"{base}/")
    assert [entry.rpartition("/")[2] for entry in objects.list(base, recursive=False)] == ["a.npz", "b.npz"]
    assert [entry["size"] for entry in objects.list(base, pattern=r"\.npz$")] == [5, 5, 7]
    assert objects.list(f"{base}/none") == []
    with pytest.raises(OptionError, match="no regular expression"):
        objects.list(base, pattern="(")


def test_entries(base):
    objects.put_bytes(f"{base}/dir/x", b"123")
    (entry,) = objects.list(base)
    assert isinstance(entry, str)
    assert entry == f"{base}/dir/x"
    assert entry["key"].endswith("dir/x")
    assert not entry["key"].startswith("/")
    assert base.partition("://")[2].lstrip("/").endswith(entry["key"].removesuffix("/dir/x"))
    assert (entry["size"], entry.get("size")) == (3, 3)
    assert entry["etag"] == (None if os.environ.get("S3DLIO_BACKEND") == "arrow" else objects.stat(entry)["etag"])
    assert entry["last_modified"].tzinfo is not None
    assert entry.get("nothing", "N/A") == "N/A"
    assert (entry[0], entry[-5:]) == (base[0], "dir/x")
    with pytest.raises(KeyError):
        entry["nothing"]
    assert dict(entry) == {name: entry[name] for name in ("key", "size", "etag", "last_modified")}
    assert objects.get(entry) == b"123", "an entry is a URI"
    copy = pickle.loads(pickle.dumps(entry))
    assert copy == entry
    assert copy["size"] == 3
    assert {entry: 1}[str(entry)] == 1


def test_stat_exists_delete(base):
    uri = f"{base}/x"
    assert not objects.exists(uri)
    objects.put_bytes(uri, b"123")
    assert objects.exists(uri)
    assert not objects.exists(base), "a directory is no object"
    assert not objects.exists(f"{base}/")
    info = objects.stat(uri)
    assert info["size"] == 3
    assert info["key"].endswith("x")
    assert isinstance(info["last_modified"], dt.datetime)
    objects.delete(uri)
    objects.delete(uri)
    assert not objects.exists(uri)
    with pytest.raises(NotFoundError):
        objects.stat(uri)
    with pytest.raises(NotFoundError):
        objects.get(uri)


CALLS = {
    "get": objects.get,
    "get_range": lambda uri: objects.get_range(uri, 1),
    "get_range of a part": lambda uri: objects.get_range(uri, 1, 2),
    "get_range from the end": lambda uri: objects.get_range(uri, -2),
    "get_range of nothing": lambda uri: objects.get_range(uri, 0, 0),
    "get_into": lambda uri: objects.get_into(uri, bytearray(9)),
    "stat": objects.stat,
}


@pytest.mark.parametrize("name", CALLS)
def test_errors_name_what_was_called(base, name):
    """And not the verb of the store that it is done by."""
    objects.put_bytes(f"{base}/other", b"")
    with pytest.raises(NotFoundError) as caught:
        CALLS[name](f"{base}/none")
    called = name.partition(" ")[0]
    assert str(caught.value).startswith(f"{called} {base}/none: ")
    assert caught.value.operation == called


@pytest.mark.parametrize("start", [1, 5])
def test_a_range_past_the_end_names_what_was_called(base, start):
    objects.put_bytes(f"{base}/empty", b"")
    with pytest.raises(ShortReadError, match=rf"^get_range {base}/empty at ") as caught:
        objects.get_range(f"{base}/empty", start)
    assert caught.value.operation == "get_range"


@pytest.mark.parametrize(
    ("name", "right"), [("get", "read"), ("get_range", "read"), ("stat", "read"), ("put", "write")]
)
@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_a_refusal_names_the_right_that_is_missing(fault_proxy, monkeypatch, backend, name, right):
    monkeypatch.setenv("S3DLIO_BACKEND", backend)
    uri = f"s3://{fault_proxy.upstream.new_container()}/k"
    objects.put_bytes(uri, b"12345")
    fault_proxy.fail(status(403), times=None)
    with pytest.raises(AccessError, match=rf"^{name} {uri}: access denied.* a right to {right}\.") as caught:
        {**CALLS, "put": lambda uri: objects.put_bytes(uri, b"1")}[name](uri)
    assert caught.value.operation == name


@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_a_part_that_fails_names_what_was_called(fault_proxy, monkeypatch, backend):
    monkeypatch.setenv("S3DLIO_BACKEND", backend)
    uri = f"s3://{fault_proxy.upstream.new_container()}/k"
    objects.put_bytes(uri, bytes(2 * PART_BYTES))
    fault_proxy.fail(status(403), method="GET", skip=1, times=None)
    with pytest.raises(AccessError, match=f"^get {uri}: "):
        objects.get(uri)
    fault_proxy.clear()
    fault_proxy.fail(status(403), method="GET", skip=1, times=None)
    with pytest.raises(AccessError, match=f"^get_range {uri}: "):
        objects.get_range(uri, 1)


def test_errors_of_several_endpoints_and_logs_name_what_was_called(moto_environment, tmp_path):
    """Also where the error passes through other stores."""
    uri = f"s3://{moto_environment.new_container()}/none"
    urls = [moto_environment.endpoint_url, moto_environment.endpoint_url + "/"]
    with op_log(tmp_path / "log.tsv"):
        with pytest.raises(NotFoundError, match=f"^get {uri}: "):
            objects.get(uri, storage_options={"endpoint_urls": urls})
        with pytest.raises(NotFoundError, match=f"^stat {uri}: "):
            objects.stat(uri)
    log = read_op_log(tmp_path / "log.tsv")
    assert log["op"].to_pylist() == ["GET", "STAT"]
    assert log["error"][0].as_py().startswith(f"get {uri}: ")


@pytest.mark.parametrize("bad", [b"memory://objects/x", 5, None])
def test_deleting_what_is_no_uri(bad):
    with pytest.raises(OptionError, match=r"^delete: got .* expected an iterable of URIs") as caught:
        objects.delete(bad)
    assert caught.value.field == "uri"
    assert objects.delete(Uri("memory", "objects", "x")) == 1, "one is legal here"


@pytest.mark.parametrize("verb", [objects.get, objects.get_buffer, objects.stat, objects.exists, objects.delete])
def test_a_container_is_no_object(verb):
    for uri in ("s3://bucket", "s3://bucket/", "memory://name"):
        with pytest.raises(OptionError, match="names a container"):
            verb(uri)
    with pytest.raises(OptionError, match="names a container"):
        objects.put_bytes("memory://name", b"1")


def test_exists_is_false_for_nothing_but_not_found(monkeypatch):
    """A refusal or a dead server is an error, not an answer."""

    def refused(store, key):
        raise AccessError("refused")

    monkeypatch.setattr(MemoryStore, "head", refused)
    with pytest.raises(AccessError):
        objects.exists("memory://name/k")


def test_a_missing_bucket(moto_environment):
    for call in (objects.get, objects.list, lambda uri: objects.put_bytes(uri, b"1")):
        with pytest.raises(NotFoundError, match="bucket 'no-such-bucket' does not exist"):
            call("s3://no-such-bucket/x")


def test_get_range(base):
    uri = f"{base}/x"
    objects.put_bytes(uri, b"0123456789")
    assert objects.get_range(uri, 2, 3) == b"234"
    assert type(objects.get_range(uri, 2, 3)) is objects.ObjectBytes
    assert objects.get_range(uri, 4) == b"456789"
    assert objects.get_range(uri, 0) == b"0123456789"
    assert objects.get_range(uri, 10) == b""
    assert objects.get_range(uri, 3, 0) == b""
    assert objects.get_range(uri, -3) == b"789"
    assert objects.get_range(uri, -3, 2) == b"78"
    assert objects.get_range(uri, -30) == b"0123456789"
    for offset, length in ((8, 3), (11, None), (11, 0), (-2, 3), (100, 1)):
        with pytest.raises(ShortReadError):
            objects.get_range(uri, offset, length)
    with pytest.raises(OptionError, match="length is -1"):
        objects.get_range(uri, 0, -1)
    with pytest.raises(NotFoundError):
        objects.get_range(f"{base}/none", 0)


def test_get_into(base):
    uri = f"{base}/x"
    objects.put_bytes(uri, b"0123456789")
    exact = np.zeros(5, np.uint16)
    assert objects.get_into(uri, exact) == 10
    assert exact.tobytes() == b"0123456789"
    larger = bytearray(b"." * 12)
    assert objects.get_into(uri, larger) == 10
    assert larger == b"0123456789.."
    smaller = bytearray(9)
    with pytest.raises(OptionError, match="has 10 bytes, expected at most the 9 of the buffer") as caught:
        objects.get_into(uri, smaller)
    assert caught.value.field == "buffer"
    with pytest.raises(OptionError, match="has 10 bytes, expected at most the 0"):
        objects.get_into(uri, bytearray())
    with pytest.raises(OptionError, match="read-only"):
        objects.get_into(uri, b"0123456789")
    objects.put_bytes(uri, b"")
    assert objects.get_into(uri, bytearray()) == 0
    assert objects.get_into(uri, bytearray(3)) == 0


def test_an_object_larger_than_one_request(base):
    content = np.random.default_rng(0).integers(0, 256, 2 * PART_BYTES + 5, np.uint8).tobytes()
    uri = f"{base}/large"
    objects.put_bytes(uri, content)
    assert objects.get(uri) == content
    buffer = objects.get_buffer(uri)
    assert not buffer.is_mutable
    assert memoryview(buffer).readonly
    assert buffer.to_pybytes() == content
    assert objects.get_range(uri, 7) == content[7:]
    assert objects.get_range(uri, 7, PART_BYTES + 1) == content[7 : PART_BYTES + 8]
    assert objects.get_range(uri, -PART_BYTES - 9) == content[-PART_BYTES - 9 :]
    memory = bytearray(len(content) + 3)
    assert objects.get_into(uri, memory) == len(content)
    assert memory == content + bytes(3)
    for size in (PART_BYTES - 1, PART_BYTES, PART_BYTES + 1):
        objects.put_bytes(uri, content[:size])
        assert objects.get(uri) == content[:size]


def test_list_keys(base):
    for name in ("b.npz", "a.npz", "d/c.npz"):
        objects.put_bytes(f"{base}/{name}", b"1")
    keys = objects.list_keys(base)
    assert keys == [entry["key"] for entry in objects.list(base)]
    assert {type(key) for key in keys} == {str}
    assert [key.rpartition("/")[2] for key in objects.list_keys(base, recursive=False)] == ["a.npz", "b.npz"]
    assert len(objects.list_keys(base, pattern="^nothing")) == 0


def test_awkward_names_go_round(base):
    names = ["per%cent", "per%20cent", "a b", "plus+sign", "ünïcode/日本", "q?x#y"]
    for name in names:
        objects.put_bytes(f"{base}/{name}".replace("%", "%25") if base.startswith("file") else f"{base}/{name}", b"1")
    found = objects.list(base)
    assert len(found) == len(names)
    assert sorted(entry["key"].removeprefix(base.partition("://")[2]) for entry in found)
    assert [objects.get(entry) for entry in found] == [b"1"] * len(names)
    objects.delete(found)
    assert objects.list(base) == []


def test_delete_many(base):
    uris = [f"{base}/{n}" for n in range(10)]
    for uri in uris:
        objects.put_bytes(uri, b"1")
    assert objects.delete(uris[0]) == 1
    assert objects.delete(objects.list(base)[:3]) == 3
    assert objects.delete(uri for uri in uris[4:7]) == 3
    assert objects.list(base) == uris[7:]
    assert objects.delete([]) == 0
    assert objects.delete([*uris, *uris]) == 20, "none there, and twice, is no error"
    assert objects.list(base) == []


def test_delete_recursively(base):
    names = ["a", "a/x", "a/y/z", "ab", "b/x"] if not base.startswith("file") else ["a/w", "a/x", "a/y/z", "ab", "b/x"]
    for name in names:
        objects.put_bytes(f"{base}/{name}", b"1")
    assert objects.delete(f"{base}/none", recursive=True) == 0
    assert objects.delete(f"{base}/ab/", recursive=True) == 0
    assert objects.delete(f"{base}/a", recursive=True) == 3
    assert objects.list(base) == [f"{base}/ab", f"{base}/b/x"]
    objects.put_bytes(f"{base}/c/x", b"1")
    assert objects.delete([f"{base}/b/", f"{base}/c"], recursive=True, max_in_flight=1) == 2
    assert objects.list(base) == [f"{base}/ab"]
    assert objects.delete(f"{base}/ab", recursive=True) == 1, "an object has nothing below it, but is itself there"
    assert objects.list(base) == []


def test_nothing_empties_a_whole_container_by_accident():
    objects.put_bytes("memory://whole/a", b"1")
    for uris in ("memory://whole", "memory://whole/", ["memory://whole/a", "memory://whole//"]):
        with pytest.raises(OptionError, match="every object of memory://whole/, expected a URI with a key"):
            objects.delete(uris, recursive=True)
    assert objects.exists("memory://whole/a")
    assert objects.delete("memory://whole/", recursive=True, whole_container=True) == 1
    assert objects.list("memory://whole/") == []
    for root in ("/", "file:///", "file://"):
        with pytest.raises(OptionError):
            objects.delete(root, recursive=True, whole_container=True)


def test_a_recursive_delete_does_not_follow_symbolic_links(tmp_path):
    outside = tmp_path / "outside"
    for path in (outside / "deep" / "x", outside / "y", tmp_path / "d" / "e" / "z", tmp_path / "real" / "w"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    (tmp_path / "d" / "link").symlink_to(outside)
    (tmp_path / "d" / "e" / "file").symlink_to(outside / "y")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert len(objects.list(f"{tmp_path}/d")) == 4
    assert objects.delete(f"{tmp_path}/d", recursive=True) == 2, "the file and the link to a file"
    assert (outside / "deep" / "x").exists()
    assert (outside / "y").exists()
    assert objects.delete(f"{tmp_path}/root/", recursive=True) == 1, "the link that was named is followed"
    assert not (tmp_path / "real" / "w").exists()


def test_a_filesystem_of_the_callers_own(tmp_path):
    inside = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    reach = {"filesystem": inside}
    objects.put_bytes("d/x", b"123", **reach)
    assert (tmp_path / "d" / "x").read_bytes() == b"123"
    assert objects.get("d/x", **reach) == b"123"
    assert objects.get_range("d/x", 1, 1, **reach) == b"2"
    assert objects.get_into("d/x", bytearray(3), **reach) == 3
    assert objects.stat("d/x", **reach)["size"] == 3
    assert objects.exists("d/x", **reach)
    (entry,) = objects.list("d", **reach)
    assert (entry, entry["key"]) == ("d/x", "d/x")
    assert objects.get(entry, **reach) == b"123"
    assert objects.list_keys("", **reach) == ["d/x"]
    with pytest.raises(OptionError, match="names a container"):
        objects.get("", **reach)
    with pytest.raises(OptionError, match="expected a URI with a key"):
        objects.delete("", recursive=True, **reach)
    assert objects.delete("d", recursive=True, **reach) == 1
    assert not objects.exists("d/x", **reach)
    absolute = str(tmp_path / "y")
    objects.put_bytes(absolute, b"1", filesystem=pafs.LocalFileSystem())
    assert objects.list(str(tmp_path), filesystem=pafs.LocalFileSystem()) == [absolute]


def test_storage_options_reach_the_store(moto_environment, monkeypatch):
    uri = f"s3://{moto_environment.new_container()}/x"
    endpoint = moto_environment.endpoint_url
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    reach = {"storage_options": {"endpoint_url": endpoint}}
    objects.put_bytes(uri, b"1", **reach)
    assert objects.get(uri, **reach) == b"1"
    assert objects.exists(uri, **reach)
    assert objects.list(uri.removesuffix("/x"), **reach) == [uri]
    assert objects.delete(uri, **reach) == 1
    with pytest.raises(OptionError, match="no_such_option"):
        objects.get(uri, storage_options={"no_such_option": 1})


def test_a_changed_variable_counts_for_the_next_call(moto_environment, monkeypatch):
    uri = f"s3://{moto_environment.new_container()}/x"
    objects.put_bytes(uri, b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError):
        objects.get(uri, storage_options={"max_attempts": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_environment.endpoint_url)
    assert objects.get(uri) == b"1"
    monkeypatch.setenv("S3DLIO_BACKEND", "arrow")
    assert objects.get(uri) == b"1"


class TestRequests:
    """What each function costs, counted at the server."""

    @pytest.fixture
    def bucket(self, fault_proxy):
        name = fault_proxy.upstream.new_container()
        objects.put_bytes(f"s3://{name}/small", b"123")
        objects.put_bytes(f"s3://{name}/empty", b"")
        objects.put_bytes(f"s3://{name}/large", bytes(2 * PART_BYTES + 5))
        fault_proxy.clear()
        return f"s3://{name}"

    def seen(self, proxy):
        found = [request.method for request in proxy.requests]
        proxy.clear()
        return found

    def test_native(self, bucket, fault_proxy):
        objects.get(f"{bucket}/small")
        assert self.seen(fault_proxy) == ["GET"]
        objects.get_range(f"{bucket}/small", 1, 1)
        assert self.seen(fault_proxy) == ["GET"]
        objects.get_range(f"{bucket}/small", 1)
        assert self.seen(fault_proxy) == ["GET"]
        objects.get_into(f"{bucket}/small", bytearray(5))
        assert self.seen(fault_proxy) == ["GET"]
        objects.get_range(f"{bucket}/small", -1)
        assert self.seen(fault_proxy) == ["HEAD", "GET"]
        assert objects.get(f"{bucket}/empty") == b""
        assert self.seen(fault_proxy) == ["GET", "HEAD"]
        objects.get(f"{bucket}/large")
        assert self.seen(fault_proxy) == ["GET"] * 3
        objects.stat(f"{bucket}/small")
        objects.exists(f"{bucket}/small")
        assert self.seen(fault_proxy) == ["HEAD"] * 2
        objects.put_bytes(f"{bucket}/small", b"456")
        assert self.seen(fault_proxy) == ["PUT"]
        objects.list_keys(bucket, pattern="^small")
        assert [method for method in self.seen(fault_proxy) if method != "HEAD"] == ["GET"]

    def test_arrow(self, bucket, fault_proxy, monkeypatch):
        monkeypatch.setenv("S3DLIO_BACKEND", "arrow")
        objects.get(f"{bucket}/small")
        assert self.seen(fault_proxy) == ["HEAD", "GET"]
        assert objects.get(f"{bucket}/empty") == b""
        assert self.seen(fault_proxy) == ["HEAD"]
        objects.get(f"{bucket}/large")
        seen = self.seen(fault_proxy)
        assert seen.count("GET") == 3
        assert seen.count("HEAD") == 5, "one before each read, one more behind each that asks for a version"

    def test_one_connection_for_a_loop(self, bucket, fault_proxy):
        for _ in range(20):
            objects.get(f"{bucket}/small")
        assert self.seen(fault_proxy) == ["GET"] * 20

    @pytest.mark.parametrize("backend", ["native", "arrow"])
    def test_all_parts_are_of_one_version(self, bucket, fault_proxy, monkeypatch, backend):
        """Overwritten after the first request: an error, never a mixture."""
        monkeypatch.setenv("S3DLIO_BACKEND", backend)
        uri = f"{bucket}/large"
        name = bucket.removeprefix("s3://")

        def overwrite():
            with fault_proxy.upstream.client() as client:
                client.put_object(Bucket=name, Key="large", Body=b"1" * (2 * PART_BYTES + 5))

        fault_proxy.fail(run_before(overwrite), method="GET", path="/large$", skip=1)
        with pytest.raises(PreconditionError, match="/large"):
            objects.get(uri)


def test_a_wrong_length_shows_no_secret():
    with pytest.raises(OptionError, match=r"^get_range https://u:\*\*\*@h/k: length is -1") as caught:
        objects.get_range("https://u:word@h/k", 0, -1)
    assert "word" not in str(caught.value)
