"""Disks that are full and directories that may not be written: an error that says so, and no debris.

With the right to mount (``CAP_SYS_ADMIN``), on a file system that is full or read-only; without it, by a limit of the
process and by another user's directory, which says less about ``fsync`` and ``rename``.
"""

import contextlib
import os
import resource
import subprocess
import tempfile
from pathlib import Path

import pytest

from s3dlio.errors import AccessError, StorageError
from s3dlio.storage import open_store

DISK_BYTES = 8 << 20
TOO_MUCH = bytes(4 << 20) * 4
SMALL = b"small" * 1000


def may_mount():
    capabilities = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line)
    return bool(int(capabilities.split()[1], 16) & 1 << 21)  # CAP_SYS_ADMIN, capabilities(7)


DISKS = ["mounted", "limited"] if may_mount() else ["limited"]


@contextlib.contextmanager
def mounted(folder, *options):
    folder.mkdir()
    subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


@pytest.fixture(params=DISKS)
def disk(request, tmp_path):
    """A directory that ``DISK_BYTES`` are too much for."""
    if request.param == "mounted":
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)], check=True)
        with mounted(tmp_path / "disk", "-o", "loop", str(image)) as folder:
            (folder / "lost+found").rmdir()
            yield folder
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, before[1]))  # Python ignores its signal: EFBIG
    try:
        yield tmp_path
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(params=["file", "direct"])
def store(request, disk):
    with open_store(f"{request.param}://{disk}") as store:
        yield store


def write_by_writer(store, key):
    with store.open_writer(key) as writer:
        for start in range(0, len(TOO_MUCH), 1 << 20):
            writer.write(TOO_MUCH[start : start + (1 << 20)])


WRITES = {"put": lambda store, key: store.put(key, TOO_MUCH), "writer": write_by_writer}
every_write = pytest.mark.parametrize("write", [*WRITES])


def check_message(error, key):
    said = str(error)
    assert ("No space left on device" in said and said.endswith("Free some space.")) or "File too large" in said, said
    assert f"/{key}: " in said
    assert not error.retryable


def debris(disk):
    return [*disk.glob("*new*"), *disk.glob(".s3dlio*")]


@every_write
def test_a_full_disk(store, disk, write):
    key, other = (f"{str(disk)[1:]}/{name}" for name in ("new", "other"))
    with pytest.raises(StorageError) as caught:
        WRITES[write](store, key)
    check_message(caught.value, key)
    assert debris(disk) == []
    store.put(other, SMALL)
    assert store.get(other).to_pybytes() == SMALL, "the space is free again"


@every_write
def test_overwriting_on_a_full_disk(store, disk, write):
    key = f"{str(disk)[1:]}/new"
    store.put(key, SMALL)
    before = store.head(key)
    with pytest.raises(StorageError):
        WRITES[write](store, key)
    assert store.head(key) == before
    assert store.get(key).to_pybytes() == SMALL
    assert [*disk.glob(".s3dlio*")] == []


def test_copying_to_a_full_disk(disk, tmp_path_factory):
    source = tmp_path_factory.mktemp("source") / "large"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit[1], limit[1]))
    source.write_bytes(TOO_MUCH)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    key = f"{str(disk)[1:]}/new"
    with open_store(disk) as store, pytest.raises(StorageError) as caught:
        store.copy(str(source)[1:], key)
    check_message(caught.value, key)
    assert debris(disk) == []


def test_downloading_to_a_full_disk(disk, faulty):
    from s3dlio.transfer.download import download

    faulty.raw.write("large", TOO_MUCH)
    with pytest.raises(StorageError) as caught:
        download(faulty.uri("large"), disk / "new", storage_options={"backend": faulty.backend})
    check_message(caught.value, f"{str(disk)[1:]}/new")
    assert debris(disk) == []


def test_a_writer_whose_bytes_are_put_aside_on_a_full_disk(disk, faulty, monkeypatch):
    """The arrow engine keeps a writer's bytes in a temporary file until they are whole."""
    if faulty.backend == "native":
        return  # keeps none
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    with faulty.open() as store:
        writer = store.open_writer("new")
        with pytest.raises(StorageError, match=r"(No space left|File too large).*TMPDIR") as caught:
            for _ in range(64):
                writer.write(TOO_MUCH)
        assert caught.value.uri == faulty.uri("new")
        writer.abort()
        assert [*store.list()] == []
    assert faulty.raw.unfinished("") == []
    assert [path for path in disk.iterdir() if path.name not in {"image", "disk"}] == []


REFUSED = {
    "put": lambda store, key: store.put(f"{key}/new", SMALL),
    "create": lambda store, key: store.put(f"{key}/new", SMALL, mode="create"),
    "put below": lambda store, key: store.put(f"{key}/sub/new", SMALL),
    "overwrite": lambda store, key: store.put(f"{key}/old", SMALL),
    "open_writer": lambda store, key: store.open_writer(f"{key}/new"),
    "copy": lambda store, key: store.copy(f"{key}/old", f"{key}/new"),
    "delete": lambda store, key: store.delete(f"{key}/old"),
}


WORDS = r"/(new|old): (the system refused it \(.*\), expected permission|the filesystem is mounted read-only)"


def check_refusals(folder, scheme):
    key = str(folder)[1:]
    with open_store(f"{scheme}://{folder}") as store:
        for verb, call in REFUSED.items():
            with pytest.raises(AccessError, match=WORDS) as caught:
                call(store, key)
            assert not caught.value.retryable, verb
        assert store.get(f"{key}/old").to_pybytes() == b"old"
        assert [name for page in store.list(key) for name in page.column("key").to_pylist()] == [f"{key}/old"]
    assert sorted(path.name for path in folder.iterdir()) == ["old"]


if may_mount():

    @pytest.mark.parametrize("scheme", ["file", "direct"])
    def test_a_read_only_file_system(tmp_path, scheme):
        folder = tmp_path / "writable"
        folder.mkdir()
        (folder / "old").write_bytes(b"old")
        with mounted(tmp_path / "read-only", "--bind", str(folder)) as target:
            subprocess.run(["mount", "-o", "remount,ro,bind", str(target)], check=True)
            check_refusals(target, scheme)


@pytest.mark.parametrize("scheme", ["file", "direct"])
def test_a_read_only_directory(scheme):
    """As another user where the tests run as root, for whom there is no such thing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "old").write_bytes(b"old")
        (folder / "old").chmod(0o444)
        folder.chmod(0o555)
        if os.geteuid() == 0:
            in_a_child(lambda: (os.setgid(65534), os.setuid(65534), check_refusals(folder, scheme)))
        else:
            check_refusals(folder, scheme)
        folder.chmod(0o755)


def in_a_child(call):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - the parent raises what it is told
            os.write(writing, repr(error).encode())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitpid(pid, 0)[1] == 0, said
