"""What is true of local files beyond the conformance suite."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest

from s3dlio.errors import ExistsError, NotFoundError, OptionError, StorageError
from s3dlio.storage import LocalStore, open_store
from s3dlio.storage import posix as posix_module


@pytest.fixture
def store():
    with LocalStore() as store:
        yield store


@pytest.fixture
def root(tmp_path):
    return str(tmp_path).strip("/")


def names(store, prefix):
    return [key.removeprefix(prefix + "/") for batch in store.list(prefix) for key in batch.column("key").to_pylist()]


def test_listings_are_sorted_by_key(store, root):
    for name in ("b/x", "b.x", "b-x", "a/b/c", "a", "B", "b/a/z"):
        store.put(f"{root}/{name}" if name != "a" else f"{root}/a.", b"")
    assert names(store, root) == sorted(names(store, root))
    assert len(names(store, root)) == 7


def test_a_killed_writer_leaves_nothing_that_is_listed(store, root, tmp_path):
    store.put(f"{root}/object", b"old")
    code = f"""
import os
from s3dlio.storage import LocalStore
writer = LocalStore().open_writer({f"{root}/object"!r})
writer.write(b"new")
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len([*tmp_path.iterdir()]) == 2, "the pending file is there"
    assert names(store, root) == ["object"]
    assert Path(f"/{root}/object").read_bytes() == b"old"


def test_the_longest_legal_name(store, root):
    key = f"{root}/{'n' * 255}"
    store.put(key, b"1")
    assert store.get(key).to_pybytes() == b"1"
    with pytest.raises(StorageError, match=r"File name too long"):
        store.put(key + "n", b"1")


def test_order_of_publishing(store, root, monkeypatch):
    """Content first, then the name, then the directory: a crash in between leaves no name without content."""
    done = []
    real_fsync, real_replace, real_link = os.fsync, Path.replace, os.link

    def fsync(descriptor):
        done.append("directory" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "content")
        real_fsync(descriptor)

    def replace(source, target):
        done.append("rename")
        return real_replace(source, target)

    def link(source, target):
        done.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(os, "link", link)
    store.put(f"{root}/k", b"1")
    assert done == ["content", "rename", "directory"]
    done.clear()
    store.put(f"{root}/c", b"1", mode="create")
    assert done == ["content", "link", "directory"]
    done.clear()
    store.put(f"{root}/new/deep/k", b"1")
    assert done == ["directory", "directory", "content", "rename", "directory"]


def test_a_failed_put_leaves_nothing(store, root, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*Free some space"):
        store.put(f"{root}/k", b"1")
    with pytest.raises(StorageError), store.open_writer(f"{root}/w") as writer:
        writer.write(b"1")
    assert [*tmp_path.iterdir()] == []


def test_umask_decides_the_mode(store, root):
    before = os.umask(0o027)
    try:
        store.put(f"{root}/k", b"1")
    finally:
        os.umask(before)
    assert Path(f"/{root}/k").stat().st_mode & 0o777 == 0o640


def test_etag_follows_the_content(store, root):
    first = store.put(f"{root}/k", b"1")
    assert store.head(f"{root}/k") == first
    second = store.put(f"{root}/k", b"2")
    assert second.etag != first.etag
    os.utime(f"/{root}/k", ns=(0, 5))
    assert store.head(f"{root}/k").etag != second.etag


def test_symbolic_links(store, root, tmp_path):
    store.put(f"{root}/real/x", b"1")
    (tmp_path / "dir").symlink_to(tmp_path / "real")
    (tmp_path / "file").symlink_to(tmp_path / "real" / "x")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    assert names(store, root) == ["dir/x", "file", "real/x"]
    assert store.get(f"{root}/file").to_pybytes() == b"1"
    with pytest.raises(NotFoundError):
        store.get(f"{root}/dangling")


def test_what_is_no_file(store, root, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for verb in (store.get, store.head):
        with pytest.raises(NotFoundError):
            verb(f"{root}/fifo")  # and does not wait for a writer
    assert names(store, root) == []


def test_a_directory_where_a_file_is_needed(store, root, tmp_path):
    store.put(f"{root}/a/b", b"1")
    with pytest.raises(StorageError, match=r"put file:///.*/a: a directory has this name, expected a file") as caught:
        store.put(f"{root}/a", b"2")
    assert not isinstance(caught.value, NotFoundError)
    with pytest.raises(StorageError, match="a directory has this name"), store.open_writer(f"{root}/a") as writer:
        writer.write(b"2")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "b"]


def test_a_file_where_a_directory_is_needed(store, root):
    store.put(f"{root}/file", b"1")
    with pytest.raises(StorageError, match=r"file"):
        store.put(f"{root}/file/below", b"1")
    with pytest.raises((ExistsError, StorageError)):
        store.put(root, b"1")
    assert names(store, root) == ["file"]


def test_no_permission():
    """In a process that is not root, who may do everything."""
    with tempfile.TemporaryDirectory() as folder, LocalStore() as store:
        store.put(f"{folder[1:]}/k", b"1")
        Path(folder, "k").chmod(0)
        Path(folder).chmod(0o555)
        code = f"""
import os
from s3dlio.errors import AccessError
from s3dlio.storage import LocalStore
if os.geteuid() == 0:
    os.setuid(65534)
store = LocalStore()
for verb in (lambda: store.get({f"{folder[1:]}/k"!r}), lambda: store.put({f"{folder[1:]}/new"!r}, b"1")):
    try:
        verb()
    except AccessError as error:
        assert "refused it" in str(error), error
    else:
        raise AssertionError
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        Path(folder).chmod(0o755)
        assert done.returncode == 0, done.stderr


def test_names_that_are_no_utf8(store, root, tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).write_bytes(b"1")
    with pytest.raises(StorageError, match=r"not UTF-8.*Rename"):
        names(store, root)


def test_a_file_that_shrinks_while_it_is_read(store, root, monkeypatch):
    store.put(f"{root}/k", b"12345")
    real = posix_module.os.preadv
    monkeypatch.setattr(posix_module.os, "preadv", lambda fd, views, at: 0 if at >= 2 else real(fd, [views[0][:2]], at))
    for verb in (store.get, lambda key: store.get_range(key, 0, 5), lambda key: store.get_into(key, bytearray(5))):
        with pytest.raises(StorageError, match=r"got 2 bytes, expected 5"):
            verb(f"{root}/k")


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("data") as store:
        assert store.uri("tmp/x") == "file:///tmp/x"
        assert store.path("tmp/x") == "/tmp/x"


def test_get_clipped(store, root):
    store.put(f"{root}/k", b"0123456789")
    meta = store.head(f"{root}/k")
    for start, end in ((0, 5), (0, 10), (3, 99), (10, 11), (10, 10), (50, 1 << 40)):
        assert store.get_clipped(f"{root}/k", start, end) == (meta, pa.py_buffer(b"0123456789"[start:end]))
    for start, end in ((-1, 5), (5, 4)):
        with pytest.raises(OptionError):
            store.get_clipped(f"{root}/k", start, end)
    with pytest.raises(NotFoundError):
        store.get_clipped(f"{root}/none", 0, 5)
