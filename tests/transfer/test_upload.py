"""Files and trees to stores."""

import datetime as dt
import os
import signal
import threading
import uuid

import numpy as np
import pyarrow.fs as pafs
import pytest

from s3dlio.errors import NotFoundError, OptionError, StorageError
from s3dlio.storage import MemoryStore, open_store
from s3dlio.transfer.copy import copy
from s3dlio.transfer.moves import PART_BYTES
from s3dlio.transfer.upload import upload

FILES = {"a.npz": b"a", "b.txt": b"", "d/c.npz": b"ccc", "d/e/f.npz": b"dd", ".hidden.npz": b"h"}


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def target():
    name = f"upload-{uuid.uuid4().hex}"
    yield f"memory://{name}"
    with MemoryStore(name) as store:
        store.clear()


def content(uri):
    with open_store(uri) as store:
        return {key: store.get(key).to_pybytes() for batch in store.list() for key in batch.column("key").to_pylist()}


def below(prefix, names=FILES):
    return {f"{prefix}{name}": FILES[name] for name in names}


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("prefix", ["", "/", "/x", "/x/"])
def test_a_directorys_content_lands_below_the_target(tree, target, slash, prefix):
    result = upload(f"{tree}{slash}", target + prefix)
    assert content(target) == below("x/" if "x" in prefix else "")
    assert (result.objects, result.bytes, result.skipped) == (5, 7, 0)
    assert result.seconds > 0


@pytest.mark.parametrize(
    ("prefix", "key"), [("", "a.npz"), ("/", "a.npz"), ("/x", "x"), ("/x/", "x/a.npz"), ("/x/y.z", "x/y.z")]
)
def test_one_file(tree, target, prefix, key):
    assert upload(tree / "a.npz", target + prefix).objects == 1
    assert content(target) == {key: b"a"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.npz", ["a.npz", ".hidden.npz"]),
        ("[ab].*", ["a.npz", "b.txt"]),
        ("*/*", ["d/c.npz"]),
        ("a**z", ["a.npz"]),
        ("**/*.npz", ["a.npz", "d/c.npz", "d/e/f.npz", ".hidden.npz"]),
        ("**", list(FILES)),
    ],
)
def test_a_pattern_keeps_the_paths_below_its_first_segment(tree, target, pattern, names):
    assert upload(tree / pattern, target + "/p").objects == len(names)
    assert content(target) == below("p/", names)


def test_paths_begin_where_the_pattern_does(tree, target):
    upload(tree / "d" / "*" / "*.npz", target)
    assert content(target) == {"e/f.npz": b"dd"}


def test_a_relative_path(tree, target, monkeypatch):
    monkeypatch.chdir(tree)
    upload("d/*.npz", target)
    assert content(target) == {"c.npz": b"ccc"}


def test_a_file_whose_name_looks_like_a_pattern(tree, target):
    (tree / "[ab].txt").write_bytes(b"itself")
    upload(tree / "[ab].txt", target)
    assert content(target) == {"[ab].txt": b"itself"}


def test_odd_names(tmp_path, target):
    names = ["with space", "100%", "a+b", "ünï", "#?&=", "日本"]
    for name in names:
        (tmp_path / name).write_text(name)
    upload(tmp_path, target)
    assert content(target) == {name: name.encode() for name in names}


def test_links_are_followed_and_pending_files_left_out(tree, target):
    (tree / "link").symlink_to(tree / "d")
    (tree / ".s3dlio-0.tmp").write_bytes(b"half")
    upload(tree, target)
    assert content(target) == below("") | {"link/c.npz": b"ccc", "link/e/f.npz": b"dd"}


def test_an_empty_directory_is_no_error(tmp_path, target):
    assert upload(tmp_path, target).objects == 0


@pytest.mark.parametrize("name", ["none", "none/", "none/*.x", "*.x", "**/*.x", "a.npz/b"])
def test_nothing_there(tree, target, name):
    with pytest.raises(NotFoundError, match="none below it") as caught:
        upload(f"{tree}/{name}", target)
    assert name.rstrip("/") in str(caught.value)
    assert content(target) == {}


def test_only_from_local_files(target):
    with pytest.raises(OptionError, match="copy"):
        upload(target + "/x", target + "/y")


def test_resume(tree, target):
    upload(tree, target)
    assert upload(tree, target, resume=True).skipped == 5
    with open_store(target) as store:
        store.delete("d/c.npz")
        store.put("a.npz", b"another size")
    future = dt.datetime.now(dt.UTC).timestamp() + 100
    os.utime(tree / "d/e/f.npz", (future, future))
    os.utime(tree / "b.txt", (future, future))  # empty, as what is there
    result = upload(tree, target, resume=True)
    assert (result.objects, result.skipped) == (3, 2)
    assert content(target) == below("")
    assert upload(tree / "d" / "c.npz", target + "/d/", resume=True).skipped == 1
    assert upload(tree / "d" / "c.npz", target + "/new", resume=True).skipped == 0


def test_skip_existing(tree, target):
    with open_store(target) as store:
        store.put("a.npz", b"another")
    result = upload(tree, target, skip_existing=True)
    assert (result.objects, result.skipped) == (4, 1)
    assert content(target) == below("") | {"a.npz": b"another"}


def test_without_resume_everything_is_sent(tree, target):
    upload(tree, target)
    assert upload(tree, target).objects == 5


def test_progress(tree, target):
    news = []
    upload(tree, target, progress=news.append, max_in_flight=3)
    assert (news[0].objects_done, news[0].objects_total, news[0].bytes_total) == (0, 5, 7)
    assert (news[-1].objects_done, news[-1].bytes_done) == (5, 7)
    assert sorted(one.current for one in news if one.current_whole) == sorted(f"file://{tree}/{name}" for name in FILES)


@pytest.mark.parametrize("extra", [-1, 0, 1, PART_BYTES + 3])
def test_sizes_around_a_part(tmp_path, target, extra):
    data = np.random.default_rng(1).bytes(PART_BYTES + extra)
    (tmp_path / "f").write_bytes(data)
    news = []
    assert upload(tmp_path / "f", target + "/k", progress=news.append).bytes == len(data)
    assert content(target) == {"k": data}
    assert news[-1].bytes_done == news[-1].bytes_total == len(data)
    assert [one.current_whole for one in news].count(True) == 1


@pytest.mark.parametrize("size", [100, 3 * PART_BYTES])
def test_a_file_that_changes_meanwhile_is_an_error_and_not_published(tmp_path, target, size, monkeypatch):
    path = tmp_path / "f"
    path.write_bytes(bytes(size))
    changed = []

    def change(*_args):
        if not changed:
            changed.append(1)
            with path.open("ab") as file:
                file.write(b"more")

    if size < PART_BYTES:  # between opening and reading, where progress does not come
        from s3dlio.storage.posix import OpenFile

        read = OpenFile.read
        monkeypatch.setattr(OpenFile, "read", lambda *args: (change(), read(*args))[1])
    with pytest.raises(StorageError, match="changed while it was read") as caught:
        upload(path, target + "/k", progress=lambda news: news.bytes_done and change())
    assert str(path) in str(caught.value)
    assert content(target) == {}


def test_the_error_names_the_file_and_what_is_done(tree, target):
    (tree / "bad\nname").write_bytes(b"x")
    with pytest.raises(OptionError, match="control characters") as caught:
        upload(tree, target, max_in_flight=1)
    assert "bad" in str(caught.value)
    done = len(content(target))
    assert caught.value.__notes__ == [f"{done} of 6 objects were transferred and stay; resume=True goes on from there."]


def test_a_filesystem_of_ones_own(tree, tmp_path):
    base = tmp_path / "own"
    base.mkdir()
    own = pafs.SubTreeFileSystem(str(base), pafs.LocalFileSystem())
    assert upload(tree, "x", filesystem=own).objects == 5
    assert (base / "x/d/e/f.npz").read_bytes() == b"dd"


def test_s3(tree, fault_proxy):
    bucket = fault_proxy.upstream.new_container()
    data = np.random.default_rng(2).bytes((17 << 20) + 5)
    (tree / "big").write_bytes(data)
    assert upload(tree, f"s3://{bucket}/t").objects == 6
    assert content(f"s3://{bucket}") == below("t/") | {"t/big": data}


def test_one_request_for_a_small_file(tmp_path, fault_proxy):
    bucket = fault_proxy.upstream.new_container()
    for number in range(30):
        (tmp_path / str(number)).write_bytes(b"x" * number)
    upload(tmp_path, f"s3://{bucket}/many")
    assert fault_proxy.count("PUT") == 30
    assert fault_proxy.count() == 30
    upload(tmp_path, f"s3://{bucket}/many", resume=True)
    assert fault_proxy.count("PUT") == 30
    assert fault_proxy.count("GET", query="list-type=2") == 1


def test_ctrl_c_aborts_an_upload_in_parts(tmp_path, fault_proxy):
    """The signal comes while the worker is between two parts; it aborts before the call is left."""
    bucket = fault_proxy.upstream.new_container()
    (tmp_path / "f").write_bytes(bytes(8 * PART_BYTES))
    interrupted = threading.Event()

    def interrupt(news):
        if news.bytes_done >= 5 * PART_BYTES and not interrupted.is_set():
            interrupted.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        upload(tmp_path / "f", f"s3://{bucket}/f", progress=interrupt)
    assert fault_proxy.count("POST", query="uploads") == 1
    with fault_proxy.upstream.client() as client:
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert content(f"s3://{bucket}") == {}


def test_what_is_no_file_is_left_out_and_said(tmp_path):
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "a").write_bytes(b"1")
    (tree / "b").symlink_to("nowhere")
    (tree / "c").symlink_to("a")
    (tree / "d" / "up").symlink_to(tree)  # a loop
    (tree / "self").symlink_to("self")
    os.mkfifo(tree / "d" / "pipe")
    with pytest.warns(RuntimeWarning, match=r"upload file:///.*/tree: left out 'b', 'd/pipe', 'self': links") as caught:
        assert upload(tree, tmp_path / "target").objects == 2
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert sorted(path.name for path in (tmp_path / "target").rglob("*")) == ["a", "c"]
    with pytest.warns(RuntimeWarning, match=r"copy direct:///.*/tree: left out 'b', 'd/pipe', 'self': links"):
        copy(f"direct://{tree}", f"memory://{uuid.uuid4().hex}/x", recursive=True)
    for number in range(5):
        (tree / f"n{number}").symlink_to("nowhere")
    with pytest.warns(RuntimeWarning, match=r"left out 'b', 'd/pipe', 'n0' and 5 more: "):
        upload(tree, tmp_path / "target", skip_existing=True)
