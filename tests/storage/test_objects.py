import datetime as dt
import pickle

import pyarrow as pa
import pytest

from s3dlio.errors import AccessError, ExistsError, NotFoundError, OptionError
from s3dlio.storage import MemoryStore, objects


@pytest.fixture(params=["memory", "file", "s3"])
def base(request, tmp_path):
    """The URI of an empty directory."""
    if request.param == "memory":
        yield "memory://objects/base"
        MemoryStore("objects").clear()
    elif request.param == "file":
        yield tmp_path.as_uri()
    else:
        server = request.getfixturevalue("moto_environment")
        yield f"s3://{server.new_container()}/base"


def test_get_and_put(base):
    uri = f"{base}/x.bin"
    assert objects.put_bytes(uri, b"content") is None
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
    assert entry["etag"] == objects.stat(entry)["etag"]
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
