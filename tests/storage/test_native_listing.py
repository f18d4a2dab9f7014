"""Listings of the native engine against boto3's: directory markers, empty objects, keys that obstore cannot name."""

import uuid

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3dlio.errors import StorageError
from s3dlio.storage import LIST_SCHEMA, NativeStore
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.storage.native import listing as native_listing
from s3dlio.uri import Uri

from ..servers.fault_actions import run_before, status


@pytest.fixture
def store(fault_proxy):
    with NativeStore(Uri.parse(f"s3://{fault_proxy.container}"), StorageOptions.from_env("s3")) as store:
        yield store


@pytest.fixture
def prefix():
    return f"listing-{uuid.uuid4().hex}"


@pytest.fixture
def boto(fault_proxy):
    with fault_proxy.upstream.client() as client:
        yield client


def fill(boto, bucket, prefix, objects):
    for name, size in objects.items():
        boto.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=bytes(size))


def names(store, prefix):
    """What the listing says: names below the prefix, and sizes."""
    found = {}
    for batch in store.list(prefix):
        assert isinstance(batch, pa.RecordBatch)
        assert batch.schema == LIST_SCHEMA
        assert batch.num_rows
        for row in batch.to_pylist():
            name = row["key"].removeprefix(f"{prefix}/")
            assert name not in found, "a key twice"
            assert not row["etag"].startswith('"')
            found[name] = row["size"]
    return found


def objects_of(everything):
    return {name: size for name, size in everything.items() if size or not name.endswith("/")}


# The names differ in how they sort around the slash: "a!" and "a-" come between "a" and "a/", "a0" after it.
SEGMENTS = st.sampled_from(["a", "a!", "a-", "a0", "b", "ü"])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
OBJECTS = st.dictionaries(NAMES | NAMES.map("{}/".format), st.sampled_from([0, 0, 1, 2]), max_size=8)


@pytest.mark.parametrize("rows", [1000, 3, 1])
def test_against_boto(monkeypatch, fault_proxy, store, boto, rows):
    """Any mixture of objects, empty objects and directory markers, also across pages."""
    monkeypatch.setattr(native_listing, "_PAGE_ROWS", rows)

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(objects=OBJECTS)
    def check(objects):
        # A key with a slash and content is only told from an object by what is below it.
        objects = {
            name: 0
            if name.endswith("/") and not any(other.startswith(name) for other in objects if other != name)
            else size
            for name, size in objects.items()
        }
        prefix = f"listing-{uuid.uuid4().hex}"
        fill(boto, fault_proxy.container, prefix, objects)
        expected = objects_of(objects)
        found = names(store, prefix)
        # Content under "a/" that sorts right before "a0": nothing shows that it is not "a" unless both are there.
        assert found == expected

    check()


def test_markers_cost_one_listing_for_a_directory(fault_proxy, store, boto, prefix):
    """Twelve markers and thirteen empty objects beside each other: one request more than without."""
    objects = {f"{number:02}/": 0 for number in range(12)} | {f"{number:02}.txt": 0 for number in range(12)} | {"x": 0}
    fill(boto, fault_proxy.container, prefix, objects)
    assert names(store, prefix) == objects_of(objects)
    assert [seen.method for seen in fault_proxy.requests] == ["GET", "GET"]
    assert fault_proxy.count("GET", query="delimiter=") == 1


def test_a_single_doubt_is_one_head(fault_proxy, store, boto, prefix):
    objects = {f"part-{number}": 5 for number in range(10)} | {"_SUCCESS": 0}
    fill(boto, fault_proxy.container, prefix, objects)
    assert names(store, prefix) == objects
    assert [seen.method for seen in fault_proxy.requests] == ["GET", "HEAD"]


def test_objects_with_content_cost_nothing_more(fault_proxy, store, boto, prefix):
    objects = {f"{number}/{number}.npz": 5 for number in range(10)}
    fill(boto, fault_proxy.container, prefix, objects)
    assert names(store, prefix) == objects
    assert [seen.method for seen in fault_proxy.requests] == ["GET"]


def test_many_pages_of_empty_objects(monkeypatch, fault_proxy, store, boto, prefix):
    """No head per object: at most one listing more of each directory, and a head before that."""
    monkeypatch.setattr(native_listing, "_PAGE_ROWS", 4)
    objects = {f"{kind}/{number:02}": 0 for kind in "ab" for number in range(30)} | {"a/": 0, "b/07/": 0}
    fill(boto, fault_proxy.container, prefix, objects)
    assert names(store, prefix) == objects_of(objects)
    assert fault_proxy.count("HEAD") <= 2
    assert fault_proxy.count("GET") <= 4


@pytest.mark.parametrize("objects", [{"a/": 5, "a/x": 1}, {"a": 3, "a/": 5, "a/x": 1}, {"a": 5, "a/": 5, "a/x": 1}])
def test_a_key_with_a_slash_and_content_has_its_name(fault_proxy, store, boto, prefix, objects):
    fill(boto, fault_proxy.container, prefix, objects)
    assert names(store, prefix) == objects


def test_alone_it_is_listed_without_its_slash(fault_proxy, store, boto, prefix):
    """The one thing that obstore hides for good: no other name is lost by it, and reading it is an error."""
    fill(boto, fault_proxy.container, prefix, {"a/": 5, "b": 1})
    assert names(store, prefix) == {"a": 5, "b": 1}
    with pytest.raises(FileNotFoundError):
        store.get(f"{prefix}/a")


@pytest.mark.parametrize("bad", ["a//b", "../b", "a/./b", "a//"])
def test_a_key_that_cannot_be_named_is_an_error(fault_proxy, store, boto, prefix, bad):
    """Never a listing without it: the error names the key and what can read it."""
    fill(boto, fault_proxy.container, prefix, {"a": 1, bad: 1})
    with pytest.raises(StorageError) as caught:
        names(store, prefix)
    assert f"{prefix}/{bad}" in str(caught.value)
    assert "backend='arrow'" in str(caught.value)
    assert not caught.value.retryable
    boto.delete_object(Bucket=fault_proxy.container, Key=f"{prefix}/{bad}")


def test_what_is_deleted_meanwhile_disturbs_nothing(fault_proxy, store, boto, prefix):
    fill(boto, fault_proxy.container, prefix, {"a": 0, "b": 1})

    def delete():
        boto.delete_object(Bucket=fault_proxy.container, Key=f"{prefix}/a")

    fault_proxy.fail(run_before(delete), method="HEAD")
    assert names(store, prefix) == {"b": 1}


def test_what_is_overwritten_meanwhile_is_listed(fault_proxy, store, boto, prefix):
    """An empty object that has content by the time it is asked for was an object all the time."""
    fill(boto, fault_proxy.container, prefix, {"a": 0, "b": 1})

    def overwrite():
        boto.put_object(Bucket=fault_proxy.container, Key=f"{prefix}/a", Body=b"123")

    fault_proxy.fail(run_before(overwrite), method="HEAD")
    assert names(store, prefix) == {"a": 0, "b": 1}


def test_a_page_is_repeated(fault_proxy, store, boto, prefix):
    """A listing of many requests does not start again because one of them was refused for now."""
    fill(boto, fault_proxy.container, prefix, {"a": 1})
    fault_proxy.fail(status(503), method="GET", times=2)
    assert names(store, prefix) == {"a": 1}
    assert fault_proxy.count("GET") == 3


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_that_never_comes_is_an_error(fault_proxy, store, boto, prefix, method):
    """Also of the question about a doubtful row: it is never taken for a no."""
    fill(boto, fault_proxy.container, prefix, {"a": 0})
    fault_proxy.fail(status(403), method=method, times=None)
    with pytest.raises(PermissionError) as caught:
        names(store, prefix)
    assert caught.value.operation == "list"
