import csv
import gc
import io
import json
import multiprocessing
import pickle
import threading
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from s3dlio.errors import ClosedError, NotFoundError, OptionError, PreconditionError, ShortReadError, StorageError
from s3dlio.storage import MemoryStore, objects
from s3dlio.storage.loans import Loans
from s3dlio.storage.object_read import PART_BYTES
from s3dlio.testing.faults import FaultyStore
from s3dlio.transfer.files import ObjectOutput, ObjectTextOutput
from s3dlio.transfer.files import open as open_object

from ..threads import all_ended

MIB = 1 << 20
LARGE = 9 * PART_BYTES + 123


@pytest.fixture(scope="module")
def content():
    return np.random.default_rng(0).integers(0, 256, LARGE, np.uint8).tobytes()


@pytest.fixture(params=["memory", "file", "s3"])
def base(request, tmp_path, memory):
    if request.param == "memory":
        return "memory://many/base"
    if request.param == "file":
        return tmp_path.as_uri()
    return f"s3://{request.getfixturevalue('moto_environment').new_container()}/base"


@pytest.fixture
def large(memory, content):
    memory.put("large", content)
    return "memory://many/large"


def test_write_and_read(base):
    uri = f"{base}/x"
    with open_object(uri, "wb") as file:
        assert isinstance(file, ObjectOutput)
        assert (file.writable(), file.readable(), file.seekable()) == (True, False, False)
        assert file.write(b"first line\n") == 11
        assert file.write(np.frombuffer(b"second", np.uint16)) == 6
        assert file.tell() == 17
        file.flush()
        assert not objects.exists(uri), "visible from close on"
    assert file.closed
    assert file.result.size == 17
    assert file.result.etag == objects.stat(uri)["etag"] or file.result.etag is None
    with open_object(uri) as file:
        assert (file.writable(), file.readable(), file.seekable()) == (False, True, True)
        assert file.readline() == b"first line\n"
        assert file.tell() == 11
        assert file.read() == b"second"
        assert file.read() == b""
        assert file.seek(-3, io.SEEK_END) == 14
        assert file.read(1) == b"o"
        assert file.seek(2, io.SEEK_CUR) == 17
        assert file.seek(100) == 100
        assert file.read(5) == b""
        file.seek(0)
        memory = bytearray(5)
        assert file.readinto(memory) == 5
        assert memory == b"first"
        assert file.peek(1)[:1] == b" "
        file.seek(0)
        assert [*file] == [b"first line\n", b"second"]
        with pytest.raises(OptionError, match="seek"):
            file.raw.seek(-1)
        with pytest.raises(ValueError, match=r"seek|negative"):
            file.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_an_empty_object(base):
    open_object(f"{base}/empty", "wb").close()
    with open_object(f"{base}/empty") as file:
        assert file.read() == b""
        assert file.seek(0, io.SEEK_END) == 0
        assert file.read(1) == b""


def test_text(base):
    uri = f"{base}/text"
    with open_object(uri, "w") as file:
        json.dump({"ü": "日"}, file, ensure_ascii=False)
    assert objects.get(uri) == '{"ü": "日"}'.encode()
    with open_object(uri, "r") as file:
        assert json.load(file) == {"ü": "日"}
    with io.TextIOWrapper(open_object(uri), encoding="utf-8") as file:
        assert json.load(file) == {"ü": "日"}
    with open_object(uri, "wt", encoding="latin-1", newline="") as file:
        csv.writer(file).writerow(["ü", 1])
        file.writelines(["a\n", "b\n"])
    assert objects.get(uri) == "ü,1\r\na\nb\n".encode("latin-1")
    with open_object(uri, "rt", encoding="ascii", errors="replace") as file:
        assert file.readlines() == ["\ufffd,1\n", "a\n", "b\n"]


def test_what_wants_a_file_gets_one(base):
    array = np.random.default_rng(1).integers(0, 256, 3 * MIB, np.uint8).reshape(-1, 64)
    with open_object(f"{base}/a.npy", "wb") as file:
        np.save(file, array)
    with open_object(f"{base}/a.npy") as file:
        np.testing.assert_array_equal(np.load(file), array)
    with open_object(f"{base}/a.npz", "wb") as file:
        np.savez(file, one=array, two=array[:3])
    with open_object(f"{base}/a.npz") as file, np.load(file) as arrays:
        np.testing.assert_array_equal(arrays["two"], array[:3])
        np.testing.assert_array_equal(arrays["one"], array)
    with open_object(f"{base}/a.zip", "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", b"x" * 1000)
        archive.writestr("y", array.tobytes())
    with open_object(f"{base}/a.zip") as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert archive.read("y") == array.tobytes()
        assert archive.read("x") == b"x" * 1000
    table = pa.table({"n": np.arange(300_000), "x": np.random.default_rng(2).random(300_000)})
    with open_object(f"{base}/a.parquet", "wb") as file:
        pq.write_table(table, file, row_group_size=10_000)
    with open_object(f"{base}/a.parquet") as file:
        assert pq.read_table(file, columns=["x"]).equals(table.select(["x"]))
    with open_object(f"{base}/a.parquet") as file:
        assert pq.ParquetFile(file).read_row_group(7).equals(table.slice(70_000, 10_000))


@pytest.mark.framework("torch")
def test_torch_saves_and_loads(base):
    import torch

    weights = {"w": torch.arange(100_000, dtype=torch.float32), "name": "x"}
    with open_object(f"{base}/a.pt", "wb") as file:
        torch.save(weights, file)
    with open_object(f"{base}/a.pt") as file:
        loaded = torch.load(file)
    assert torch.equal(loaded["w"], weights["w"])
    assert loaded["name"] == "x"


@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_an_exception_publishes_nothing(base, mode):
    uri = f"{base}/x"
    data = b"half" if mode == "wb" else "half"
    with pytest.raises(KeyError), open_object(uri, mode) as file:
        file.write(data)
        raise KeyError
    assert file.closed
    assert not objects.exists(uri)
    objects.put_bytes(uri, b"old")
    with pytest.raises(KeyError), open_object(uri, mode) as file:
        file.write(data)
        raise KeyError
    file.close()
    assert objects.get(uri) == b"old"
    assert objects.list(base) == [uri]


@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_a_file_that_is_dropped_publishes_nothing_and_warns(memory, mode):
    file = open_object("memory://many/x", mode)
    file.write(b"half" if mode == "wb" else "half")
    with pytest.warns(ResourceWarning, match="memory://many/x was opened for writing and dropped"):
        file = gc.collect()
    assert not objects.exists("memory://many/x")


def test_abort(memory):
    file = open_object("memory://many/x", "wb")
    file.write(b"half")
    file.abort()
    file.abort()
    file.close()
    assert file.closed
    assert file.result is None
    assert not objects.exists("memory://many/x")
    with pytest.raises(ValueError, match="closed"):
        file.write(b"more")
    done = open_object("memory://many/x", "wb")
    done.close()
    done.abort()
    assert objects.get("memory://many/x") == b""


def test_abort_of_text(memory):
    file = open_object("memory://many/x", "wt")
    file.write("half")
    file.abort()
    file.close()
    assert file.closed
    assert file.result is None
    assert not objects.exists("memory://many/x")
    with open_object("memory://many/x", "wt") as file:
        file.write("whöle")
    file.abort()
    assert file.result.size == 6
    assert objects.get("memory://many/x").decode() == "whöle"


def test_numpy_finds_out_that_a_file_takes_bytes(memory):
    """``savetxt`` tries text first, and goes by the TypeError."""
    with open_object("memory://many/x", "wb") as file:
        with pytest.raises(TypeError) as caught:
            file.write("text")
        assert isinstance(caught.value, OptionError)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), TypeError)
        np.savetxt(file, np.arange(3), fmt="%d")
    assert objects.get("memory://many/x") == b"0\n1\n2\n"


def test_a_failed_write_is_not_published_by_close(memory, monkeypatch):
    class Full:
        def write(self, _data):
            raise StorageError("write memory://many/x: no space left")

        def close(self):
            raise ClosedError("close memory://many/x: the writer is aborted")

        def abort(self):
            pass

    monkeypatch.setattr(MemoryStore, "open_writer", lambda *_args, **_options: Full())
    file = open_object("memory://many/x", "wb")
    with pytest.raises(StorageError, match="no space"):
        file.write(b"1")
    with pytest.raises(ClosedError):
        file.close()
    assert file.closed


@pytest.mark.parametrize("mode", ["ab", "r+b", "rb+", "xb", "x", "a", "", "wbt", "br", "z"])
def test_other_modes_are_refused(memory, mode):
    with pytest.raises(OptionError, match="expected 'rb', 'wb', 'rt' or 'wt'") as caught:
        open_object("memory://many/x", mode)
    assert caught.value.field == "mode"
    assert not objects.exists("memory://many/x")


def test_text_options_of_bytes_are_refused(memory):
    for options in ({"encoding": "utf-8"}, {"errors": "strict"}, {"newline": ""}):
        with pytest.raises(OptionError, match="with mode 'rb', expected them with text"):
            open_object("memory://many/x", **options)


def test_nothing_to_open(base):
    with pytest.raises(NotFoundError, match=f"^open {base}/none: ") as caught:
        open_object(f"{base}/none")
    assert caught.value.operation == "open"
    with pytest.raises(FileNotFoundError):
        open_object(f"{base}/none", "rt")
    with pytest.raises(OptionError, match="names a container"):
        open_object("memory://many/")


def test_reading_in_order_goes_ahead_and_stays_small(large, content, misbehave):
    faulty = misbehave()
    pieces, most = [], 0
    with open_object(large) as file:
        while piece := file.read(100_000):
            pieces.append(piece)
            coming = file.raw._coming
            most = max(most, sum(end - start for start, end, _ in coming) + file.raw._block.size)
    assert b"".join(pieces) == content
    assert most <= 5 * PART_BYTES
    assert most > 3 * PART_BYTES, "it does read ahead"
    ranges = [call for call in faulty.calls if call.verb == "get_range"]
    assert len({call.start for call in ranges}) == len(ranges), "nothing twice"
    assert len(ranges) < 20
    assert all_ended("s3dlio-read")


def test_reading_a_header_fetches_little(large, content, misbehave):
    faulty = misbehave()
    with open_object(large) as file:
        assert file.read(MIB // 2) == content[: MIB // 2]
        assert [call for call in faulty.calls if call.start] == []
        assert file.read(MIB) == content[MIB // 2 : 3 * MIB // 2]
        assert sum(end - start for start, end, _ in file.raw._coming) + file.raw._block.size <= 4 * MIB


def test_reading_here_and_there_fetches_what_is_asked_for(large, content, misbehave):
    asked = []
    faulty = misbehave()
    real = faulty.get_range
    faulty.get_range = lambda key, start, end, **options: asked.append((start, end)) or real(key, start, end, **options)
    with open_object(large) as file:
        for at in (LARGE - 22, 50 * MIB, 5 * MIB + 7, 30 * MIB):
            asked.clear()
            file.seek(at)
            assert file.read(10) == content[at : at + 10]
            assert asked == [(at, min(at + (128 << 10), LARGE))]
            assert file.raw._coming == type(file.raw._coming)()


def test_seeking_to_where_the_file_is_anyway_costs_nothing(large, content, misbehave):
    """``zipfile`` and ``tarfile`` seek before every read."""
    faulty = misbehave()
    done = bytearray()
    with open_object(large) as file:
        while piece := file.read(300_000):
            done += piece
            file.seek(len(done))
    assert done == content
    assert len(faulty.calls) < 22


def test_skipping_forward_keeps_what_was_fetched(large, content, misbehave):
    faulty = misbehave()
    with open_object(large) as file:
        file.read(30 * MIB // 4 * 4)
        file.seek(2 * MIB, io.SEEK_CUR)
        at = file.tell()
        assert file.read(1000) == content[at : at + 1000]
    starts = [call.start for call in faulty.calls if call.verb == "get_range"]
    assert len(set(starts)) == len(starts)


def test_many_bytes_at_once_come_as_parts(large, content, misbehave):
    faulty = misbehave()
    with open_object(large) as file:
        assert file.read() == content
    assert len([call for call in faulty.calls if call.verb == "get_into"]) == 9
    memory = bytearray(LARGE)
    with open_object(large) as file:
        file.seek(3 * MIB)
        assert file.readinto(memoryview(memory)[3 * MIB :]) == LARGE - 3 * MIB
    assert memory[3 * MIB :] == content[3 * MIB :]


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_reads_and_seeks(large, content, seed):
    """Against a file in memory, which shares no code with the reader."""
    random = np.random.default_rng(seed)
    oracle = io.BytesIO(content)
    with open_object(large) as file:
        for _ in range(200):
            if random.random() < 0.3:
                offset, whence = int(random.integers(0, LARGE + 10)), int(random.integers(0, 3))
                offset = {0: offset, 1: (offset - oracle.tell()) // 4, 2: -min(offset, LARGE)}[whence]
                assert file.seek(offset, whence) == oracle.seek(offset, whence)
            count = int(10 ** random.uniform(0, 7.3))
            if random.random() < 0.5:
                assert file.read(count) == oracle.read(count)
            else:
                one, other = bytearray(count), bytearray(count)
                assert file.readinto(one) == oracle.readinto(other)
                assert one == other
            assert file.tell() == oracle.tell()


def test_one_version_only(large, content, memory):
    with open_object(large) as file:
        assert file.read(10) == content[:10]
        memory.put("large", content[::-1])
        with pytest.raises(PreconditionError, match=r"^read .*large"):
            file.read(2 * MIB)
        with pytest.raises(PreconditionError, match=r"^read .*large"):
            file.read()
        file.seek(MIB * 20)
        with pytest.raises(PreconditionError, match=r"^read .*large"):
            file.read(5)


def test_after_an_error_the_file_goes_on_where_it_was(large, content, misbehave):
    lost = []

    def shorten(call):
        if call.verb == "get_range" and call.start > 20 * MIB and not lost:
            lost.append(call)
            return 1
        return 0

    misbehave(shorten=shorten)
    done = bytearray()
    with open_object(large) as file:
        while True:
            try:
                piece = file.raw.read(100_000)
            except ShortReadError:
                assert len(lost) == 1
                continue
            if not piece:
                break
            done += piece
    assert len(lost) == 1
    assert done == content


def test_closing_does_not_wait_for_what_is_stuck(large, misbehave):
    leave, stuck = threading.Event(), threading.Event()

    def before(call):
        if call.start > 5 * MIB:
            stuck.set()
            assert leave.wait(30)

    misbehave(before=before)
    file = open_object(large)
    file.read(4 * MIB)
    assert stuck.wait(30)
    file.close()
    leave.set()
    assert all_ended("s3dlio-read")


def test_a_forked_child_reads_on(large, content):
    with open_object(large) as file:
        file.read(20 * MIB)

        def child():
            assert file.read(30 * MIB) == content[20 * MIB : 50 * MIB]
            file.close()

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert file.read() == content[20 * MIB :]


def test_a_filesystem_of_the_callers_own(tmp_path):
    path = f"{tmp_path}/x"
    filesystem = pafs.LocalFileSystem()
    with open_object(path, "wb", filesystem=filesystem) as file:
        file.write(b"12345")
    assert (tmp_path / "x").read_bytes() == b"12345"
    with open_object(path, filesystem=filesystem) as file:
        assert file.read() == b"12345"


def test_files_do_not_pickle(large):
    with open_object(large) as file, pytest.raises(TypeError):
        pickle.dumps(file)
    with open_object("memory://many/x", "wb") as file, pytest.raises(TypeError):
        pickle.dumps(file)


def test_faulty_store_is_what_is_read(large, misbehave):
    """The tests above count calls of this store, so it has to be the one."""
    faulty = misbehave()
    assert isinstance(faulty, FaultyStore)
    open_object(large).close()
    assert faulty.calls


@pytest.mark.parametrize("kind", [lambda output: output, lambda output: ObjectTextOutput(output, "utf-8", None, None)])
def test_left_by_ctrl_c_where_the_abort_fails(kind):
    """It stays Ctrl-C, with a note."""

    class Writer:
        def abort(self):
            raise StorageError("abort u: refused.", uri="u", operation="abort")

    with pytest.raises(KeyboardInterrupt) as caught, kind(ObjectOutput("u", Writer(), Loans())) as file:
        raise KeyboardInterrupt
    assert caught.value.__notes__ == ["abort u: refused."]
    assert file.closed
