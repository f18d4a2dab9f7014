"""Objects and trees to local files."""

import datetime as dt
import errno
import os
import signal
import threading
import time
import uuid

import numpy as np
import pyarrow.fs as pafs
import pytest

from s3dlio.errors import NotFoundError, OptionError, PreconditionError, StorageError
from s3dlio.storage import MemoryStore, open_store
from s3dlio.transfer.download import download
from s3dlio.transfer.moves import PART_BYTES
from s3dlio.transfer.selection import select
from s3dlio.transfer.side import Side

OBJECTS = {"a.npz": b"a", "b.txt": b"", "d/c.npz": b"ccc", "d/e/f.npz": b"dd", "dd/x": b"x"}


@pytest.fixture
def source():
    name = f"download-{uuid.uuid4().hex}"
    with MemoryStore(name) as store:
        for key, data in OBJECTS.items():
            store.put(key, data)
        yield f"memory://{name}"
        store.clear()


@pytest.mark.parametrize(("scheme", "name"), [("https", "b.npz"), ("http", "b.npz"), ("memory", "2026&sig=secret")])
def test_a_signature_is_no_part_of_a_name(scheme, name):
    key = "a/b.npz?credential=me/2026&sig=secret"
    with MemoryStore(f"download-{uuid.uuid4().hex}") as store:
        store.put(key, b"1")
        side = Side(store, key, local=False, place=(), scheme=scheme)
        assert [item.name for item in select(side, "download").items] == [name]
        store.clear()


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def below(prefix, names=OBJECTS):
    return {f"{prefix}{name}": OBJECTS[name] for name in names}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("there", [False, True])
def test_a_prefixs_content_lands_below_the_target(source, tmp_path, slash, there):
    if there:
        (tmp_path / "new").mkdir()
    result = download(f"{source}{slash}", tmp_path / "new")
    assert files(tmp_path) == below("new/")
    assert (result.objects, result.bytes, result.skipped) == (5, 7, 0)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_prefix_is_a_directory(source, tmp_path, slash):
    download(f"{source}/d{slash}", tmp_path)
    assert files(tmp_path) == {"c.npz": b"ccc", "e/f.npz": b"dd"}


@pytest.mark.parametrize(
    ("target", "name"), [("x", "x"), ("x/", "x/c.npz"), ("there", "there/c.npz"), ("deep/er/x", "deep/er/x")]
)
def test_one_object(source, tmp_path, target, name):
    (tmp_path / "there").mkdir()
    download(f"{source}/d/c.npz", f"{tmp_path}/{target}")
    assert files(tmp_path) == {name: b"ccc"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.npz", ["a.npz"]),
        ("d*/*", ["d/c.npz", "dd/x"]),
        ("**/*.npz", ["a.npz", "d/c.npz", "d/e/f.npz"]),
        ("**", list(OBJECTS)),
        ("?.[nt]*", ["a.npz", "b.txt"]),
    ],
)
def test_a_pattern(source, tmp_path, pattern, names):
    download(f"{source}/{pattern}", tmp_path)
    assert files(tmp_path) == below("", names)


def test_an_object_whose_key_looks_like_a_pattern(source, tmp_path):
    with open_store(source) as store:
        store.put("[ab].txt", b"itself")
    download(f"{source}/[ab].txt", tmp_path)
    assert files(tmp_path) == {"[ab].txt": b"itself"}


@pytest.mark.parametrize("key", ["none", "none/", "*.none", "d/c", "a.npz/"])
def test_nothing_there(source, tmp_path, key):
    with pytest.raises(NotFoundError, match="none below it") as caught:
        download(f"{source}/{key}", tmp_path / "t")
    assert caught.value.uri == f"{source}/{key}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("clash", ["a.npz/below", "d/e"])
def test_keys_that_cannot_be_files_side_by_side(source, tmp_path, clash):
    with open_store(source) as store:
        store.put(clash, b"clash")
    with pytest.raises(OptionError, match="same place"):
        download(source, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_the_way(source, tmp_path):
    (tmp_path / "b.txt" / "in").mkdir(parents=True)
    with pytest.raises(OptionError, match="is a directory"):
        download(source, tmp_path)
    assert not [name for name in files(tmp_path) if "s3dlio" in name]


@pytest.mark.parametrize("wanted", ["b.txt", ""])
def test_a_pipe_in_the_way(source, tmp_path, wanted):
    """It would be replaced, and so would /dev/null."""
    os.mkfifo(tmp_path / "b.txt")
    with pytest.raises(StorageError, match=r"download .* to .*b\.txt: a device, pipe or socket has this name"):
        download(f"{source}/{wanted}", tmp_path / wanted)
    assert (tmp_path / "b.txt").is_fifo()
    assert not [name for name in files(tmp_path) if "s3dlio" in name]


def test_a_file_in_the_way_of_a_directory(source, tmp_path):
    (tmp_path / "d").write_bytes(b"file")
    with pytest.raises(StorageError):
        download(source, tmp_path)
    assert (tmp_path / "d").read_bytes() == b"file"


def test_only_to_local_files(source):
    with pytest.raises(OptionError, match="copy"):
        download(source, "memory://elsewhere")


def test_the_time_is_the_objects(source, tmp_path):
    with open_store(source) as store:
        mtime = store.head("a.npz").mtime
    download(f"{source}/a.npz", tmp_path)
    assert (tmp_path / "a.npz").stat().st_mtime == pytest.approx(mtime.timestamp(), abs=1e-3)


def test_resume(source, tmp_path):
    download(source, tmp_path)
    assert download(source, tmp_path, resume=True).skipped == 5
    (tmp_path / "a.npz").unlink()
    (tmp_path / "d/c.npz").write_bytes(b"another size")
    past = dt.datetime(2000, 1, 1, tzinfo=dt.UTC).timestamp()
    os.utime(tmp_path / "dd/x", (past, past))
    result = download(source, tmp_path, resume=True)
    assert (result.objects, result.skipped) == (3, 2)
    assert files(tmp_path) == below("")


def test_skip_existing(source, tmp_path):
    (tmp_path / "a.npz").write_bytes(b"mine")
    assert download(source, tmp_path, skip_existing=True).skipped == 1
    assert files(tmp_path) == below("") | {"a.npz": b"mine"}


@pytest.mark.parametrize("extra", [-1, 0, 1, 3 * PART_BYTES + 5])
@pytest.mark.parametrize("max_in_flight", [1, 16])
def test_sizes_around_a_part(source, tmp_path, extra, max_in_flight):
    data = np.random.default_rng(1).bytes(PART_BYTES + extra)
    with open_store(source) as store:
        store.put("big", data)
    news = []
    result = download(f"{source}/big", tmp_path / "f", progress=news.append, max_in_flight=max_in_flight)
    assert (tmp_path / "f").read_bytes() == data
    assert result.bytes == len(data)
    assert [one.current_whole for one in news].count(True) == 1
    assert news[-1].bytes_done == news[-1].bytes_total == len(data)


def test_an_object_replaced_between_two_parts(source, tmp_path):
    with open_store(source) as store:
        store.put("big", bytes(4 * PART_BYTES))

        def replace(news):
            if news.bytes_done == PART_BYTES:
                store.put("big", b"\1" * (4 * PART_BYTES))

        with pytest.raises(PreconditionError, match="big"):
            download(f"{source}/big", tmp_path / "f", progress=replace, max_in_flight=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(source, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        download(f"{source}/a.npz", tmp_path / "f")
    assert f"{source}/a.npz" in str(caught.value)
    assert str(tmp_path / "f") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", range(8))
def test_an_error_in_the_middle_of_many_leaves_no_debris(source, tmp_path, number):
    """With few moves kept, the one that fails, and those under way, must be among them."""
    with open_store(source) as store:
        for count in range(60):
            store.put(f"many/{count:02d}", bytes(100))
        store.put(f"many/{7 * number:02d}x", bytes(3 * PART_BYTES))

        def vanish(news):
            if news.current.endswith("x"):
                store.delete(f"many/{7 * number:02d}x")

        with pytest.raises(NotFoundError):
            download(f"{source}/many/", tmp_path, progress=vanish, max_in_flight=1)
    left = files(tmp_path)
    assert all(len(data) == 100 for data in left.values())
    assert not [name for name in left if "s3dlio" in name]


def test_what_was_whole_before_an_error_stays(source, tmp_path):
    with open_store(source) as store:
        store.put("z", bytes(4 * PART_BYTES))

        def vanish(news):
            if news.current.endswith("/z"):
                store.delete("z")

        with pytest.raises(NotFoundError, match="/z") as caught:
            download(source, tmp_path, progress=vanish, max_in_flight=1)
    assert files(tmp_path) == below("")
    assert "5 of 6" in caught.value.__notes__[0]


def test_ctrl_c_leaves_no_debris_and_comes_at_once(source, tmp_path):
    """The signal comes while a part is being written; the thread that writes comes back only afterwards."""
    with open_store(source) as store:
        store.put("z", bytes(4 * PART_BYTES))
    go_on = threading.Event()

    def interrupt(news):
        if news.bytes_done > PART_BYTES and not go_on.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            go_on.wait(30)

    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            download(source, tmp_path, progress=interrupt, max_in_flight=1)
        assert time.monotonic() - began < 10, "it waits for the thread that writes"
        assert not [name for name in files(tmp_path) if "s3dlio" in name]
    finally:
        go_on.set()
    assert files(tmp_path) == below("")


def test_a_filesystem_of_ones_own(tmp_path):
    base = tmp_path / "own"
    (base / "x/y").mkdir(parents=True)
    data = np.random.default_rng(3).bytes(2 * PART_BYTES + 1)
    (base / "x/y/z").write_bytes(data)
    own = pafs.SubTreeFileSystem(str(base), pafs.LocalFileSystem())
    assert download("x", tmp_path / "out", filesystem=own).objects == 1
    assert files(tmp_path / "out") == {"y/z": data}


@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_s3(fault_proxy, tmp_path, backend):
    bucket = fault_proxy.upstream.new_container()
    uri = f"s3://{bucket}"
    data = np.random.default_rng(2).bytes((17 << 20) + 5)
    with open_store(uri) as store:
        for key, value in (OBJECTS | {"big": data}).items():
            store.put(f"t/{key}", value)
    assert download(f"{uri}/t", tmp_path, storage_options={"backend": backend}).objects == 6
    assert files(tmp_path) == below("") | {"big": data}
    result = download(f"{uri}/t", tmp_path, resume=True, storage_options={"backend": backend})
    assert (result.objects, result.skipped) == (0, 6)


def test_one_request_for_a_small_object(fault_proxy, tmp_path):
    bucket = fault_proxy.upstream.new_container()
    with open_store(f"s3://{bucket}") as store:
        for number in range(30):
            store.put(f"many/{number}", b"x" * (number + 1))
    fault_proxy.clear()
    download(f"s3://{bucket}/many/", tmp_path)
    assert fault_proxy.count("GET", query="list-type=2") == 1
    assert fault_proxy.count() == 31
