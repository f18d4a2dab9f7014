"""What is true of ``direct://`` beyond the conformance suite: no page cache, aligned edges, refusals."""

import ctypes
import errno
import fcntl
import gc
import mmap
import os
import pickle
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3dlio.errors import AccessError, ClosedError, ExistsError, NotFoundError, ShortReadError, StorageError
from s3dlio.storage import posix as posix_module
from s3dlio.storage.direct import io as direct_io
from s3dlio.storage.direct import lanes
from s3dlio.storage.direct.aligned import BLOCK, AlignedMemory, address_of
from s3dlio.storage.direct.io import DirectFallbackWarning
from s3dlio.storage.direct.store import DirectStore
from s3dlio.storage.local import LocalStore
from s3dlio.storage.open import open_store

MIB = 1 << 20
SIZES = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * MIB + 3, 8 * MIB, 21 * MIB + 4097]
"""Nothing, both sides of a block, one lane, several, and more than a writer gathers."""


@pytest.fixture
def store():
    with DirectStore() as store:
        yield store


@pytest.fixture
def root(tmp_path):
    return str(tmp_path).strip("/")


def content(size, seed=0):
    return np.random.default_rng(seed).bytes(size)


def cached_pages(path):
    """Pages of the file in the page cache, by mincore(2)."""
    size = Path(path).stat().st_size
    if not size:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    descriptor = os.open(path, os.O_RDONLY)
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    os.close(descriptor)
    assert address not in {None, ctypes.c_void_p(-1).value}
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    assert libc.mincore(address, size, pages) == 0
    libc.munmap(address, size)
    return sum(page & 1 for page in pages)


def drop(path):
    """Take the file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(store, root, size):
    data = content(size)
    path = Path(f"/{root}/k")
    assert store.put(f"{root}/k", data).size == size
    assert path.read_bytes() == data
    assert store.get(f"{root}/k").to_pybytes() == data
    store.copy(f"{root}/k", f"{root}/copy")
    assert Path(f"/{root}/copy").read_bytes() == data
    with store.open_writer(f"{root}/w") as writer:
        for at in range(0, size, 3 * MIB + 5):
            writer.write(data[at : at + 3 * MIB + 5])
    assert Path(f"/{root}/w").read_bytes() == data
    assert writer.close().size == size


@pytest.mark.parametrize("size", SIZES)
def test_reads_and_writes_leave_nothing_in_the_page_cache(store, root, size):
    path = f"/{root}/k"
    Path(path).write_bytes(content(size))
    assert not size or cached_pages(path) > 0, "the test cannot see the page cache here"
    drop(path)
    assert cached_pages(path) == 0
    store.get(f"{root}/k")
    store.get_range(f"{root}/k", size // 3, size)
    store.get_into(f"{root}/k", bytearray(size // 2), size // 2)
    store.copy(f"{root}/k", f"{root}/copy")
    store.put(f"{root}/put", content(size))
    with store.open_writer(f"{root}/written") as writer:
        writer.write(content(size))
    assert {name: cached_pages(f"/{root}/{name}") for name in ("k", "copy", "put", "written")} == {
        "k": 0, "copy": 0, "put": 0, "written": 0,
    }  # fmt: skip


RANGED = 21 * MIB + 777


@pytest.fixture(scope="module")
def ranged(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranged") / "k"
    path.write_bytes(content(RANGED))
    return path


OFFSETS = st.one_of(
    st.integers(0, RANGED),
    st.builds(
        lambda block, off: min(max(0, block * BLOCK + off), RANGED), st.integers(0, RANGED // BLOCK), st.integers(-2, 2)
    ),
    st.builds(
        lambda part, off: min(max(0, part * lanes.PART_BYTES + off), RANGED), st.integers(0, 6), st.integers(-1, 1)
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(bounds=st.tuples(OFFSETS, OFFSETS).map(sorted), shift=st.sampled_from([None, 0, 1, 512, BLOCK - 1]))
def test_any_range_into_any_memory(ranged, bounds, shift):
    """``shift``: how far the caller's memory is from a block; None: as far as the range is from one in the file."""
    start, end = bounds
    key, size = str(ranged)[1:], end - start
    with DirectStore() as store, Path(ranged).open("rb") as file:
        file.seek(start)
        expected = file.read(size)
        assert store.get_range(key, start, end).to_pybytes() == expected
        memory = store._access.memory.take(size + 3 * BLOCK)
        memory[:] = b"?" * len(memory)
        begin = BLOCK + (start % BLOCK if shift is None else shift)
        store.get_into(key, memory[begin : begin + size], start)
        assert memory[begin : begin + size] == expected
        assert set(memory[begin - BLOCK : begin]) <= {ord("?")}, "written in front of the caller's memory"
        assert set(memory[begin + size :]) <= {ord("?")}, "written behind the caller's memory"


def test_aligned_memory_is_read_into_without_a_copy(store, root, monkeypatch):
    """The device writes into the caller's memory; only the edges are copied."""
    store.put(f"{root}/k", content(9 * MIB + 5))
    copied = []
    real = direct_io._copy
    monkeypatch.setattr(direct_io, "_copy", lambda to, source: (copied.append(len(to)), real(to, source)))
    memory = AlignedMemory().take(9 * MIB + BLOCK)
    store.get_into(f"{root}/k", memory[7 : 9 * MIB + 5], 7)
    assert memory[7 : 9 * MIB + 5] == content(9 * MIB + 5)[7:]
    assert sorted(copied) == [5, BLOCK - 7]
    copied.clear()
    store.get(f"{root}/k")
    store.get_range(f"{root}/k", 3, 8 * MIB)
    assert copied == []


def test_large_requests_are_in_flight_together(store, root, monkeypatch):
    """All lanes are inside a read, or a write, at the same time."""
    data = content(8 * lanes.PART_BYTES)
    both = {}
    for name in ("preadv", "pwrite"):
        real, barrier = getattr(os, name), threading.Barrier(lanes.LANES)

        def together(*args, real=real, barrier=barrier, name=name):
            barrier.wait(60)
            both[name] = both.get(name, 0) + 1
            return real(*args)

        monkeypatch.setattr(direct_io.os, name, together)
    store.put(f"{root}/k", data)
    assert store.get(f"{root}/k").to_pybytes() == data
    assert both == {"preadv": 8, "pwrite": 8}


def test_a_buffer_is_reused_only_when_nobody_refers_to_it(store, root):
    keys = [f"{root}/{number}" for number in range(6)]
    for number, key in enumerate(keys):
        store.put(key, bytes([number]) * 100_000)
    first = store.get(keys[0])
    address = first.address
    slice_, array, view = first.slice(5000, 10), np.frombuffer(first, np.uint8)[1:], memoryview(first)[7:]
    del first, slice_, array
    others = [store.get(key) for key in keys[1:]]
    assert view.tobytes() == bytes(99_993)
    assert address not in {other.address for other in others}
    del view
    gc.collect()
    again = store.get(keys[1])
    assert again.address == address, "the memory was not reused"
    assert not again.is_mutable
    assert [set(memoryview(other)) for other in others] == [{1}, {2}, {3}, {4}, {5}]


def test_free_memory_is_bounded():
    memory = AlignedMemory()
    taken = [memory.take(30 * MIB) for _ in range(20)]
    assert all(address_of(view) % BLOCK == 0 for view in taken)
    large = memory.take(1 << 30)
    del taken, large
    free = sum(map(len, memory._free))
    assert 200 * MIB < free <= 256 * MIB
    kept = len(memory._free)
    reused = memory.take(20 * MIB)
    assert len(memory._free) == kept - 1
    small = memory.take(1000)
    assert len(memory._free) == kept - 1, "30 MiB were given out for 1000 bytes"
    assert (len(reused), len(small)) == (20 * MIB, 1000)
    memory.clear()
    assert memory._free == []


def test_no_descriptors_are_left(store, root, open_files):
    store.put(f"{root}/k", content(21 * MIB))
    before = open_files()
    store.get(f"{root}/k")
    store.get_into(f"{root}/k", bytearray(20 * MIB), 3)
    store.copy(f"{root}/k", f"{root}/copy")
    assert open_files() == before


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("call", ["preadv", "pwrite"])
def test_an_error_of_the_device(store, root, tmp_path, monkeypatch, call, large, open_files):
    """It is raised once, and leaves neither files nor descriptors nor threads."""
    data = content(24 * MIB if large else 5000)
    store.put(f"{root}/k", data)
    before = open_files()
    real, calls = getattr(os, call), []

    def failing(*args):
        calls.append(args[-1])
        if len(calls) == (3 if large else 1):
            raise OSError(errno.EIO, "Input/output error")
        return real(*args)

    monkeypatch.setattr(direct_io.os, call, failing)
    with pytest.raises(StorageError, match="Input/output error"):
        store.get(f"{root}/k") if call == "preadv" else store.put(f"{root}/new", data)
    assert len(calls) <= 6, "parts were begun after the error"
    assert open_files() == before
    assert [path.name for path in tmp_path.iterdir()] == ["k"]
    monkeypatch.undo()
    assert store.get(f"{root}/k").to_pybytes() == data


def test_a_file_that_shrinks_while_it_is_read(store, root, monkeypatch):
    store.put(f"{root}/k", content(24 * MIB))
    real = os.preadv
    monkeypatch.setattr(direct_io.os, "preadv", lambda fd, views, at: 0 if at >= 8 * MIB else real(fd, views, at))
    for verb in (
        store.get,
        lambda key: store.get_range(key, 1, 20 * MIB),
        lambda key: store.get_into(key, bytearray(20 * MIB), 1),
    ):
        with pytest.raises(ShortReadError, match=r"got 838860[78] bytes, expected") as caught:
            verb(f"{root}/k")
        assert caught.value.retryable


def test_partial_writes_go_on(store, root, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(direct_io.os, "pwrite", lambda fd, view, at: real(fd, view[: BLOCK * 3], at))
    data = content(MIB + 77)
    store.put(f"{root}/k", data)
    assert Path(f"/{root}/k").read_bytes() == data


def refusing_open(monkeypatch, *, creates=False):
    """A filesystem that knows no O_DIRECT; ``creates``: one that makes the file before it says so."""
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if flags & os.O_DIRECT:
            if creates and flags & os.O_CREAT:
                os.close(real(path, flags & ~os.O_DIRECT, *args, **kwargs))
            raise OSError(errno.EINVAL, "Invalid argument", path)
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(posix_module.os, "open", refuse)


def refusing_io(monkeypatch):
    """A filesystem that opens with O_DIRECT and refuses the first request."""
    for name in ("preadv", "pwrite"):
        real = getattr(os, name)

        def refuse(descriptor, *args, real=real):
            if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
                raise OSError(errno.EINVAL, "Invalid argument")
            return real(descriptor, *args)

        monkeypatch.setattr(direct_io.os, name, refuse)


REFUSALS = {
    "open": refusing_open,
    "open creates": lambda monkeypatch: refusing_open(monkeypatch, creates=True),
    "io": refusing_io,
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refusal_is_an_error_that_names_the_option(store, root, tmp_path, monkeypatch, refusal):
    (tmp_path / "k").write_bytes(content(20 * MIB))
    REFUSALS[refusal](monkeypatch)
    verbs = {
        "get": lambda: store.get(f"{root}/k"),
        "get_range": lambda: store.get_range(f"{root}/k", 5, 10),
        "get_into": lambda: store.get_into(f"{root}/k", bytearray(10)),
        "put": lambda: store.put(f"{root}/new", content(20 * MIB)),
        "create": lambda: store.put(f"{root}/new", b"1", mode="create"),
        "copy": lambda: store.copy(f"{root}/k", f"{root}/new"),
        "open_writer": lambda: store.open_writer(f"{root}/new").close() if refusal != "io" else write(store, root),
    }
    for name, verb in verbs.items():
        with pytest.raises(StorageError, match=r"refuses O_DIRECT.*direct_fallback=True") as caught:
            verb()
        assert f"direct:///{root}" in str(caught.value), name
        assert not caught.value.retryable
        assert [path.name for path in tmp_path.iterdir()] == ["k"], f"{name} left something behind"


def write(store, root):
    with store.open_writer(f"{root}/new") as writer:
        writer.write(content(20 * MIB))


@pytest.mark.parametrize("refusal", REFUSALS)
def test_fallback_goes_through_the_page_cache_and_says_so_once(root, tmp_path, monkeypatch, refusal):
    data = content(20 * MIB + 5)
    REFUSALS[refusal](monkeypatch)
    with DirectStore(fallback=True) as store, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store.put(f"{root}/k", data)
        store.put(f"{root}/small", b"1")
        assert store.get(f"{root}/k").to_pybytes() == data
        assert store.get_range(f"{root}/k", 77, 9 * MIB).to_pybytes() == data[77 : 9 * MIB]
        store.copy(f"{root}/k", f"{root}/copy")
        write(store, root)
    assert (tmp_path / "k").read_bytes() == (tmp_path / "copy").read_bytes() == data
    assert (tmp_path / "small").read_bytes() == b"1"
    assert [warning.category for warning in caught] == [DirectFallbackWarning]
    assert "page cache" in str(caught[0].message)


def test_a_system_without_o_direct(store, root, monkeypatch):
    monkeypatch.setattr(direct_io, "_O_DIRECT", 0)
    with pytest.raises(StorageError, match="direct_fallback=True"):
        store.put(f"{root}/k", b"1")


def test_another_invalid_argument_is_no_refusal(store, root, monkeypatch):
    """Only what O_DIRECT explains is called a refusal."""

    def fail(descriptor):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError) as caught:
        store.put(f"{root}/k", b"1")
    assert "O_DIRECT" not in str(caught.value)


@pytest.mark.parametrize("size", [5, 20 * MIB])
def test_disk_full(store, root, tmp_path, monkeypatch, size):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(direct_io.os, "pwrite", full)
    for verb in (
        lambda: store.put(f"{root}/k", content(size)),
        lambda: write(store, root),
    ):
        with pytest.raises(StorageError, match=r"No space left.*Free some space"):
            verb()
        assert [*tmp_path.iterdir()] == []


def test_a_full_disk_is_found_before_much_is_written(store, root, tmp_path, monkeypatch):
    written = []

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(direct_io.os, "posix_fallocate", full)
    monkeypatch.setattr(direct_io.os, "pwrite", lambda *args: written.append(args))
    with pytest.raises(StorageError, match=r"No space left.*Free some space"):
        store.put(f"{root}/k", content(20 * MIB))
    assert written == []
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("call", ["preadv", "pwrite"])
def test_an_interrupt_does_not_wait_for_the_device(store, root, tmp_path, monkeypatch, call, open_files):
    """Ctrl-C leaves a read or write that hangs; what it goes on to do later hits nobody."""
    store.put(f"{root}/k", content(20 * MIB))
    before = open_files()
    inside, release = threading.Barrier(lanes.LANES + 1), threading.Event()
    real = getattr(os, call)

    def stuck(*args):
        inside.wait(60)
        release.wait(60)
        return real(*args)

    monkeypatch.setattr(direct_io.os, call, stuck)
    killer = threading.Thread(target=lambda: (inside.wait(60), os.kill(os.getpid(), signal.SIGINT)))
    killer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        store.get(f"{root}/k") if call == "preadv" else store.put(f"{root}/new", content(20 * MIB))
    assert time.monotonic() - began < 5, "it waited for the device"
    killer.join()
    assert [path.name for path in tmp_path.iterdir()] == ["k"]
    monkeypatch.undo()
    data = store.get(f"{root}/k")  # in other memory than what is still being read into
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("s3dlio-direct"):
            thread.join(60)
    assert data.to_pybytes() == content(20 * MIB)
    assert open_files() == before


@pytest.mark.parametrize("kind", [DirectStore, LocalStore])
def test_a_buffer_that_was_shrunk(root, kind):
    """pyarrow's compressed buffers have memoryviews of the length that they had before."""
    data = pa.Codec("zstd").compress(bytes(100_000))
    with kind() as store:
        assert store.put(f"{root}/k", data).size == data.size < 1000
        with store.open_writer(f"{root}/w") as writer:
            writer.write(data)
        for name in "kw":
            assert Path(f"/{root}/{name}").read_bytes() == data.to_pybytes()


@pytest.mark.parametrize("kind", [DirectStore, LocalStore])
@pytest.mark.parametrize("call", ["preadv", "write"])
def test_a_copy_that_fails_names_the_file_at_fault(root, tmp_path, monkeypatch, kind, call):
    def fail(*args):
        raise OSError(errno.EIO, "Input/output error")

    with kind() as store:
        store.put(f"{root}/from", content(5000))
        if call == "preadv":
            monkeypatch.setattr(direct_io.os, "preadv", fail)
        else:
            monkeypatch.setattr(posix_module.PendingFile, "write", fail)
            monkeypatch.setattr(direct_io.DirectPendingFile, "write", fail)
        with pytest.raises(StorageError, match="Input/output error") as caught:
            store.copy(f"{root}/from", f"{root}/to")
        assert caught.value.uri == store.uri(f"{root}/{'from' if call == 'preadv' else 'to'}")
        assert [path.name for path in tmp_path.iterdir()] == ["from"]


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EINVAL])
def test_a_filesystem_that_cannot_allocate(store, root, monkeypatch, error):
    def refuse(*args):
        raise OSError(error, "no")

    monkeypatch.setattr(direct_io.os, "posix_fallocate", refuse)
    store.put(f"{root}/k", content(20 * MIB))
    assert Path(f"/{root}/k").read_bytes() == content(20 * MIB)


def test_what_is_no_file(store, root, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    for name in ("fifo", "dir", "none"):
        for verb in (store.get, store.head):
            with pytest.raises(NotFoundError):
                verb(f"{root}/{name}")
    with pytest.raises((NotFoundError, AccessError)):
        store.get("dev/null")


def test_temporary_files_and_create(store, root, tmp_path):
    store.put(f"{root}/k", b"1", mode="create")
    with pytest.raises(ExistsError):
        store.put(f"{root}/k", content(20 * MIB), mode="create")
    writer = store.open_writer(f"{root}/w")
    writer.write(b"1")
    assert [key for batch in store.list(root) for key in batch.column("key").to_pylist()] == [f"{root}/k"]
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_open_store(root):
    with open_store(f"direct:///{root}/k") as store:
        assert repr(store) == "DirectStore(fallback=False)"
    with open_store(f"direct:///{root}/k", direct_fallback=True) as store:
        assert repr(store) == "DirectStore(fallback=True)"


def test_a_filesystem_that_really_refuses(store):
    """procfs: a file of it is a regular one."""
    with pytest.raises(StorageError, match="refuses O_DIRECT"):
        store.get("proc/version")


def test_it_is_a_store_of_its_own_scheme(store, root):
    store.put(f"{root}/k", b"1")
    assert store.uri(f"{root}/k") == f"direct:///{root}/k"
    assert repr(store) == "DirectStore(fallback=False)"
    other = pickle.loads(pickle.dumps(DirectStore(fallback=True)))
    assert repr(other) == "DirectStore(fallback=True)"
    other.close()
    with pytest.raises(ClosedError, match="direct://"):
        other.get(f"{root}/k")
    with pytest.raises(NotFoundError, match=f"direct:///{root}/none"):
        store.get(f"{root}/none")
    assert isinstance(store.get(f"{root}/k"), pa.Buffer)


@pytest.fixture(params=["fifo", "stdout"])
def special(request, tmp_path):
    """The key of a name that no file must take: a pipe, or a link to what a process has open, as /dev/stdout is."""
    (tmp_path / "special").mkdir()
    path = tmp_path / "special" / "it"
    if request.param == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/proc/self/fd/1")
    before = path.lstat()
    yield str(path).lstrip("/")
    after = path.lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert [*path.parent.iterdir()] == [path]


def written(store, key):
    with store.open_writer(key) as writer:
        writer.write(b"1")


def copied(store, key):
    store.copy(key.replace("special/it", "k"), key)


@pytest.mark.parametrize("kind", [DirectStore, LocalStore])
@pytest.mark.parametrize("verb", [lambda store, key: store.put(key, b"1"), written, copied])
def test_what_is_no_file_is_not_replaced_by_one(kind, special, verb):
    with kind() as store:
        store.put(special.replace("special/it", "k"), b"1")
        with pytest.raises(StorageError, match=r"special/it: a device, pipe or socket has this name.*`s3dlio cat`"):
            verb(store, special)
