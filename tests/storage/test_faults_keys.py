"""Keys and objects that trip clients: odd names, many of them, empty ones, markers, and ones that go away."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from s3dlio.errors import NotFoundError, OptionError, StorageError
from s3dlio.reading import Request, fetch
from s3dlio.storage import open_store

from ..conftest import S3_SERVERS
from ..servers.fault_actions import run_before
from .raw_objects import RawAzureByArrow, RawAzureByObstore, RawFiles, RawGoogle, RawS3

NAMEABLE = [
    "with space", " leading", "per%cent", "per%20cent", "%2F", "plus+plus", "ünï/ç→", "e\u0301", "日本語", "😀",
    "?query=1", "#hash", "a&b=c;d", "q'\"q", "<x>&amp;", "[br]{ac}", "*", "~t", "a:b", "@at", "$d", "a,b", "...",
    ".hidden", "s3:x", "^`|",
]  # fmt: skip
UNNAMEABLE = ["a//b", "a///b", "./x", "x/./y", "x/../y", "..", "tab\there", "c\x01c"]

VERBS = {
    "head": lambda store, key: store.head(key),
    "get": lambda store, key: store.get(key),
    "get_range": lambda store, key: store.get_range(key, 0, 1),
    "get_into": lambda store, key: store.get_into(key, bytearray(1)),
    "put": lambda store, key: store.put(key, b"1"),
    "open_writer": lambda store, key: store.open_writer(key),
    "delete": lambda store, key: store.delete(key),
    "copy from": lambda store, key: store.copy(key, "odd/target"),
    "copy to": lambda store, key: store.copy("odd/source", key),
}


def keys_in(store, prefix=""):
    return [key for page in store.list(prefix) for key in page.column("key").to_pylist()]


@pytest.fixture(params=[*S3_SERVERS, "google_server", pytest.param("azurite_server", marks=pytest.mark.servers)])
def server(request, monkeypatch, clean_environment):
    """Every server in turn, with the environment pointing at it."""
    server = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def place(server, backend):
    """A store on a new container of every server, and a side channel to the same."""
    name = server.new_container()
    if server.scheme == "gs":
        raw = RawGoogle(server, name)
    elif server.scheme == "az":
        raw = (RawAzureByArrow if backend == "native" else RawAzureByObstore)(server, name)
    else:
        raw = RawS3(server, name)
    with open_store(f"{server.scheme}://{name}", backend=backend) as store:
        yield store, raw
    if server.scheme != "az":
        raw.close()


@pytest.mark.parametrize("name", NAMEABLE)
def test_round_trip_of_an_odd_key(place, name):
    store, raw = place
    key, other = f"odd/{name}", f"copies of/{name}"
    store.put(key, b"mine")
    assert raw.read(key) == b"mine", "the server knows it by the same name"
    assert keys_in(store, "odd") == [key]
    assert store.get(key).to_pybytes() == b"mine"
    assert store.get_range(key, 1, 3).to_pybytes() == b"in"
    meta = store.head(key)
    assert (meta.key, meta.size) == (key, 4)
    store.copy(key, other)
    assert sorted(keys_in(store)) == sorted([key, other])
    store.delete(key)
    assert raw.read(key) is None
    assert keys_in(store) == [other]
    with store.open_writer(key) as writer:
        writer.write(b"written")
    assert raw.read(key) == b"written"


@pytest.mark.parametrize("name", NAMEABLE)
def test_round_trip_of_an_odd_file_name(tmp_path, name):
    raw = RawFiles("/")
    with open_store(tmp_path) as store:
        key = f"{str(tmp_path)[1:]}/odd/{name}"
        store.put(key, b"mine")
        assert raw.read(key) == b"mine"
        assert keys_in(store, str(tmp_path)[1:]) == [key]
        assert store.get(key).to_pybytes() == b"mine"
        assert open_store(store.uri(key)).get(key).to_pybytes() == b"mine", "its URI leads back to it"
        store.copy(key, f"{key} copied")
        store.delete(key)
        assert keys_in(store, str(tmp_path)[1:]) == [f"{key} copied"]


@pytest.mark.parametrize("name", UNNAMEABLE)
def test_a_key_that_engines_disagree_about_is_refused(s3_server, backend, name):
    """Before any request, naming it. Somebody else's object of that name is listed as it is, or named by an error."""
    bucket = s3_server.new_container()
    key = f"odd/{name}"
    raw = RawS3(s3_server, bucket)
    raw.write(key, b"theirs")
    raw.write("odd/source", b"1")
    with open_store(f"s3://{bucket}", backend=backend) as store:
        for verb in VERBS.values():
            with pytest.raises(OptionError, match=re.escape(repr(key))) as caught:
                verb(store, key)
            assert caught.value.field == "key"
        if backend == "native":
            with pytest.raises(StorageError, match=f"{re.escape(repr(key))}.*Rename"):
                keys_in(store)
        else:
            assert sorted(keys_in(store)) == sorted(["odd/source", key])
    assert raw.read(key) == b"theirs", "untouched"
    raw.close()


def test_a_trailing_slash(place):
    """It names a directory: nothing to read, nothing to write, a prefix to list."""
    store, raw = place
    raw.write("dir/", b"")
    raw.write("dir/object", b"1")
    for name, verb in VERBS.items():
        expected = NotFoundError if name in {"head", "get", "get_range", "get_into", "copy from"} else OptionError
        with pytest.raises(expected, match=r"dir/"):
            verb(store, "dir/")
    assert keys_in(store, "dir/") == keys_in(store, "dir") == keys_in(store) == ["dir/object"]
    assert raw.read("dir/object") == b"1"


def test_content_under_a_trailing_slash(s3_server, backend):
    """Not nameable, so an error when read: not dropped, and no other object's bytes."""
    bucket = s3_server.new_container()
    raw = RawS3(s3_server, bucket)
    raw.write("dir/name/", b"content")
    with open_store(f"s3://{bucket}", backend=backend) as store:
        (found,) = keys_in(store, "dir")
        assert found.rstrip("/") == "dir/name"
        with pytest.raises(NotFoundError, match=r"dir/name"):
            store.get(found)
    raw.close()


def test_empty_objects_and_markers(place):
    store, raw = place
    raw.write("made by hand/", b"")
    raw.write("made by hand/empty", b"")
    store.put("put", b"")
    with store.open_writer("written"):
        pass
    store.put("full", b"1")
    assert sorted(keys_in(store)) == ["full", "made by hand/empty", "put", "written"]
    assert keys_in(store, "made by hand") == ["made by hand/empty"]
    for key in ("put", "written", "made by hand/empty"):
        assert raw.read(key) == b""
        assert store.head(key).size == 0
        assert store.get(key).to_pybytes() == b""
        assert store.get_range(key, 0, 0).to_pybytes() == b""
        store.get_into(key, bytearray())
        ((_, buffer),) = fetch(store, [Request(key=key, end=0, whole=True)])
        assert buffer.size == 0
    store.copy("put", "copied")
    assert raw.read("copied") == b""
    with pytest.raises(NotFoundError):
        store.head("made by hand")


MANY = [f"many/{number:05d}" for number in range(10_001)]


@pytest.fixture(scope="module")
def many(moto_server):
    """A bucket of 10,001 small objects."""
    bucket = moto_server.new_container()
    raw = RawS3(moto_server, bucket)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: raw.write(key, b"1"), MANY))
    yield bucket
    raw.close()


def test_ten_thousand_and_one_keys(many, fault_proxy, backend):
    with open_store(f"s3://{many}", backend=backend) as store:
        batches = [*store.list("many")]
    assert [key for batch in batches for key in batch.column("key").to_pylist()] == MANY
    assert fault_proxy.count() == fault_proxy.count("GET", query="list-type=2") == 11
    assert max(batch.num_rows for batch in batches) <= 10_001


@pytest.fixture
def few(faulty_buckets):
    """1,500 objects: two pages."""
    keys = [f"few/{number:04d}" for number in range(1500)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: faulty_buckets.raw.write(key, b"1"), keys))
    return faulty_buckets, keys


def test_objects_deleted_during_a_listing(few):
    """What stays is listed once; what goes may be missing; nothing else is there."""
    bucket, keys = few
    gone = {*keys[::30], keys[1497]}
    rule = bucket.proxy.fail(run_before(lambda: bucket.raw.delete(sorted(gone))), query=bucket.goes_on)
    with bucket.open(read_timeout_s=30) as store:  # the deletes are one request each on Google
        found = keys_in(store, "few")
        assert rule.applied == 1
        assert sorted(set(found)) == sorted(found)
        assert set(keys) - gone <= set(found) <= set(keys)
        assert set(keys_in(store, "few")) == set(keys) - gone
        for key in (keys[0], keys[1497]):
            with pytest.raises(NotFoundError, match=re.escape(f"{bucket.uri(key)}: no such object")):
                store.get(key)


def test_reading_an_object_that_was_deleted_after_the_listing(faulty_buckets):
    for number in range(5):
        faulty_buckets.raw.write(f"data/{number}", b"12345")
    with faulty_buckets.open() as store:
        sizes = [(row["key"], row["size"]) for page in store.list("data") for row in page.to_pylist()]
        faulty_buckets.raw.delete(["data/3"])
        got = []
        with pytest.raises(NotFoundError, match=r"data/3: no such object"):
            for index, buffer in fetch(store, [Request(key=key, end=size, whole=True) for key, size in sizes]):
                got.append((index, buffer.to_pybytes()))
        assert got == [(0, b"12345"), (1, b"12345"), (2, b"12345")], "what came before it is delivered"
