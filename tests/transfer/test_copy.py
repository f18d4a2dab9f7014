"""Objects and trees between stores."""

import os
import uuid

import numpy as np
import pyarrow.fs as pafs
import pytest

from s3dlio.errors import AccessError, NotFoundError, OptionError, StorageError
from s3dlio.storage import MemoryStore, open_store
from s3dlio.transfer.copy import copy
from s3dlio.transfer.download import download
from s3dlio.transfer.moves import PART_BYTES
from s3dlio.transfer.upload import upload

from ..servers.fault_actions import status

OBJECTS = {"t/a": b"a", "t/b/c": b"ccc", "t/b/d.x": b"", "u": b"u"}


@pytest.fixture
def memory():
    """Makes memory containers by name."""
    made = []

    def make(objects=()):
        name = f"copy-{uuid.uuid4().hex}"
        store = MemoryStore(name)
        made.append(store)
        for key, data in dict(objects).items():
            store.put(key, data)
        return f"memory://{name}"

    yield make
    for store in made:
        store.clear()
        store.close()


def content(uri):
    with open_store(uri) as store:
        return {key: store.get(key).to_pybytes() for batch in store.list() for key in batch.column("key").to_pylist()}


def test_one_object_within_a_store(memory):
    uri = memory(OBJECTS)
    assert copy(f"{uri}/u", f"{uri}/v").objects == 1
    assert copy(f"{uri}/t/b/c", f"{uri}/w/").bytes == 3
    assert content(uri) == OBJECTS | {"v": b"u", "w/c": b"ccc"}


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_tree_between_stores(memory, slash):
    source, target = memory(OBJECTS), memory()
    assert copy(f"{source}/t{slash}", f"{target}/n", recursive=True).objects == 3
    assert content(target) == {"n/a": b"a", "n/b/c": b"ccc", "n/b/d.x": b""}


def test_a_tree_into_itself_ends(memory):
    uri = memory(OBJECTS)
    assert copy(f"{uri}/t", f"{uri}/t/b", recursive=True).objects == 3
    assert content(uri) == OBJECTS | {"t/b/a": b"a", "t/b/b/c": b"ccc", "t/b/b/d.x": b""}


def test_a_pattern_needs_no_recursive(memory):
    source, target = memory(OBJECTS), memory()
    assert copy(f"{source}/t/**/*.x", target).objects == 1
    assert content(target) == {"b/d.x": b""}


def test_a_directory_needs_recursive(memory):
    source, target = memory(OBJECTS), memory()
    with pytest.raises(OptionError, match="recursive=True") as caught:
        copy(f"{source}/t", f"{target}/x")
    assert caught.value.field == "recursive"
    with pytest.raises(NotFoundError):
        copy(f"{source}/none", f"{target}/x")
    with pytest.raises(NotFoundError):
        copy(f"{source}/none/", f"{target}/x", recursive=True)
    assert content(target) == {}


def test_a_tree_over_objects_of_its_own(memory):
    before = {"a/x": b"outer", "a/a/x": b"inner", "a/y": b"y"}
    uri = memory(before)
    with pytest.raises(OptionError, match=r"a/a/x: its target .*/a/x is to be copied, too"):
        copy(f"{uri}/a", uri, recursive=True)
    assert content(uri) == before, "nothing is moved"


def test_an_object_onto_itself(memory):
    uri = memory(OBJECTS)
    for call in (lambda: copy(f"{uri}/u", f"{uri}/u"), lambda: copy(uri, uri, recursive=True)):
        with pytest.raises(OptionError, match="one object"):
            call()
    assert content(uri) == OBJECTS


@pytest.mark.parametrize("size", [PART_BYTES, PART_BYTES + 1, 4 * PART_BYTES + 7])
def test_large_objects_through_memory(memory, size):
    data = np.random.default_rng(0).bytes(size)
    source, target = memory({"big": data}), memory()
    news = []
    assert copy(f"{source}/big", f"{target}/big", progress=news.append).bytes == size
    assert content(target) == {"big": data}
    assert news[-1].objects_done == 1
    assert [one.current_whole for one in news].count(True) == 1


def test_an_object_replaced_meanwhile_is_not_published(memory):
    source, target = memory({"big": bytes(8 * PART_BYTES)}), memory()
    with open_store(source) as store:

        def replace(news):
            if news.bytes_done == PART_BYTES:
                store.put("big", b"\1" * (8 * PART_BYTES))

        with pytest.raises(StorageError, match="big"):
            copy(f"{source}/big", f"{target}/big", progress=replace)
    assert content(target) == {}


def test_files_on_either_side(memory, tmp_path):
    uri = memory(OBJECTS)
    copy(f"{uri}/t", tmp_path / "down", recursive=True)
    assert (tmp_path / "down/b/c").read_bytes() == b"ccc"
    copy(tmp_path / "down", f"{uri}/up", recursive=True)
    assert content(uri)["up/b/c"] == b"ccc"
    copy(tmp_path / "down", tmp_path / "beside", recursive=True)
    assert (tmp_path / "beside/b/c").read_bytes() == b"ccc"


def test_keys_that_cannot_be_files(memory, tmp_path):
    uri = memory({"t/a": b"", "t/a/b": b""})
    with pytest.raises(OptionError, match="same place"):
        copy(f"{uri}/t", tmp_path, recursive=True)
    assert list(tmp_path.iterdir()) == []


def test_resume_and_skip(memory):
    source, target = memory(OBJECTS), memory({"a": b"A", "b/c": b"12345"})
    result = copy(f"{source}/t", target, recursive=True, skip_existing=True)
    assert (result.objects, result.skipped) == (1, 2)
    result = copy(f"{source}/t", target, recursive=True, resume=True)
    assert (result.objects, result.skipped) == (1, 2)
    assert content(target) == {"a": b"A", "b/c": b"ccc", "b/d.x": b""}


def test_filesystems_of_ones_own(memory, tmp_path):
    uri = memory(OBJECTS)
    own = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    copy(f"{uri}/t", "x", recursive=True, filesystem=own)
    assert (tmp_path / "x/b/c").read_bytes() == b"ccc"
    copy("x", f"{uri}/back", recursive=True, source_filesystem=own)
    assert content(uri)["back/b/c"] == b"ccc"
    copy("x/a", "y", source_filesystem=own, filesystem=own)
    assert (tmp_path / "y").read_bytes() == b"a"


def test_within_a_bucket_no_byte_passes_here(fault_proxy):
    bucket = fault_proxy.upstream.new_container()
    with open_store(f"s3://{bucket}") as store:
        for key, data in OBJECTS.items():
            store.put(key, data)
    fault_proxy.clear()
    assert copy(f"s3://{bucket}/t", f"s3://{bucket}/n/", recursive=True).objects == 3
    assert fault_proxy.count("PUT") == 3
    assert fault_proxy.count("GET", path=f"{bucket}/t/.") == 0
    assert content(f"s3://{bucket}")["n/b/c"] == b"ccc"


def test_between_buckets_and_schemes(fault_proxy, memory):
    one, two = fault_proxy.upstream.new_container(), fault_proxy.upstream.new_container()
    data = np.random.default_rng(5).bytes((17 << 20) + 1)
    source = memory(OBJECTS | {"t/big": data})
    copy(f"{source}/t", f"s3://{one}/t", recursive=True)
    copy(f"s3://{one}/t", f"s3://{two}/x", recursive=True)
    back = memory()
    copy(f"s3://{two}/x", back, recursive=True)
    assert content(back) == {"a": b"a", "b/c": b"ccc", "b/d.x": b"", "big": data}


def test_options_of_each_side(fault_proxy, memory):
    """The source is reached as its own options say."""
    bucket = fault_proxy.upstream.new_container()
    source = memory(OBJECTS)
    copy(f"{source}/u", f"s3://{bucket}/u")
    nowhere = {"endpoint_url": "http://127.0.0.1:9", "retry_deadline_s": 0.1}
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        copy(f"s3://{bucket}/u", f"s3://{bucket}/v", source_options=nowhere)
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        copy(f"s3://{bucket}/u", f"s3://{bucket}/v", storage_options=nowhere)
    here = {"endpoint_url": fault_proxy.endpoint_url}
    copy(f"s3://{bucket}/u", f"s3://{bucket}/v", source_options=here)  # through memory: the options differ
    assert content(f"s3://{bucket}") == {"u": b"u", "v": b"u"}


@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_a_round_trip_on_every_server(server, tmp_path, backend):
    uri = f"{server.scheme}://{server.new_container()}"
    options = {"backend": backend}
    data = np.random.default_rng(6).bytes((17 << 20) + 1)
    tree = {"a": b"a", "d/empty": b"", "d/e f/ü+%": b"odd", "big": data}
    for name, content_ in tree.items():
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(content_)
        os.utime(tmp_path / "up" / name, (10**9, 10**9))  # in another second than its upload: see test_resume
    copy(tmp_path / "up", f"{uri}/one", recursive=True, storage_options=options)
    copy(f"{uri}/one", f"{uri}/two/", recursive=True, storage_options=options)
    copy(f"{uri}/two", tmp_path / "down", recursive=True, storage_options=options)
    down = {
        str(p.relative_to(tmp_path / "down")): p.read_bytes() for p in (tmp_path / "down").rglob("*") if p.is_file()
    }
    assert down == tree
    again = copy(f"{uri}/two", tmp_path / "down", recursive=True, resume=True, storage_options=options)
    assert (again.objects, again.skipped) == (0, 4)
    again = copy(tmp_path / "up", f"{uri}/one", recursive=True, resume=True, storage_options=options)
    assert (again.objects, again.skipped) == (0, 4)


def test_errors_name_the_transfer(fault_proxy, tmp_path):
    """And not the verb that looks what there is."""
    uri = f"s3://{fault_proxy.container}/named"
    (tmp_path / "file").write_bytes(b"1")
    fault_proxy.fail(status(403), method="HEAD", times=None)
    for name, call in (
        ("download", lambda: download(uri, tmp_path / "other")),
        ("copy", lambda: copy(uri, uri + "-2")),
        ("upload", lambda: upload(tmp_path / "file", uri, resume=True)),
    ):
        with pytest.raises(AccessError, match=f"^{name} {uri}: access denied") as caught:
            call()
        assert caught.value.operation == name


@pytest.mark.parametrize("name", ["up[1]", "what?", "a*b", "**"])
def test_a_directory_whose_name_looks_like_a_pattern(memory, tmp_path, name):
    (tmp_path / name / "d").mkdir(parents=True)
    (tmp_path / name / "d" / "f").write_bytes(b"1")
    (tmp_path / "up1").write_bytes(b"another")
    uri = memory()
    assert upload(tmp_path / name, f"{uri}/{name}").objects == 1
    assert content(uri) == {f"{name}/d/f": b"1"}
    assert download(f"{uri}/{name}", tmp_path / "back").objects == 1
    assert (tmp_path / "back" / "d" / "f").read_bytes() == b"1"
    with pytest.raises(OptionError, match="got a directory"):
        copy(f"{uri}/{name}", f"{uri}/copy")
    assert copy(f"{uri}/{name}", f"{uri}/copy", recursive=True).objects == 1


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_pattern_that_names_nothing(memory, tmp_path, place):
    uri = memory({"b": b"1"}) if place == "memory" else str(tmp_path)
    with pytest.raises(NotFoundError, match="none below it"):
        copy(f"{uri}/up[1]", memory(), recursive=True)
