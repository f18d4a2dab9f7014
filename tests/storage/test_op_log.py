"""The operation log: what is recorded, that nothing is lost, and what other processes do to it."""

import csv
import gc
import io
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.errors import ClosedError, FormatError, NotFoundError, OptionError, StorageError
from s3dlio.storage.memory import MemoryStore
from s3dlio.storage.open import open_store
from s3dlio.storage.operation_log.format import HEADER, OP_LOG_SCHEMA, Lines, Operation, read_op_log
from s3dlio.storage.operation_log.log import active_op_log, op_log
from s3dlio.storage.operation_log.store import LoggedStore
from s3dlio.testing import StoreSuite

from .raw_objects import RawFiles, RawMemory

PATIENCE_S = 30
module = sys.modules[op_log.__module__]  # a package may export the function under the module's name


@pytest.fixture(autouse=True)
def nothing_stays_behind():
    yield
    for log in [*module._open.values()]:
        log.close()
    module._environment.clear()
    assert not module._entered
    assert module._current.get() is None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ops.tsv.zst"


@pytest.fixture
def name():
    return f"log-{uuid.uuid4().hex}"


def rows(path):
    """As anybody reads it: the system's zstd and Python's csv."""
    raw = path.read_bytes()
    if path.suffix == ".zst":
        raw = subprocess.run(["zstd", "-dc"], input=raw, capture_output=True, check=True).stdout
    return [*csv.DictReader(io.StringIO(raw.decode(), newline=""), delimiter="\t")]


def test_zstd_is_installed():
    assert shutil.which("zstd"), "these tests read logs by the command zstd. Install it."


def test_every_verb(path, name):
    with op_log(path) as log, open_store(f"memory://{name}") as store:
        store.put("a/1", b"12345")
        store.get("a/1")
        store.get_range("a/1", 1, 3)
        store.get_into("a/1", np.zeros(3, np.uint8), 2)
        store.get_clipped("a/1", 0, 100)
        store.head("a/1")
        store.copy("a/1", "a/2")
        assert [batch.num_rows for batch in store.list("a")] == [2]
        with store.open_writer("w") as writer:
            writer.write(b"abc")
            writer.write(b"defg")
        store.delete("a/2")
        with pytest.raises(NotFoundError):
            store.get("none")
    assert log.path == path
    found = rows(path)
    assert [(r["op"], r["n_objects"], r["bytes"], r["file"], bool(r["error"])) for r in found] == [
        ("PUT", "1", "5", f"{name}/a/1", False),
        ("GET", "1", "5", f"{name}/a/1", False),
        ("GET", "1", "2", f"{name}/a/1", False),
        ("GET", "1", "3", f"{name}/a/1", False),
        ("GET", "1", "5", f"{name}/a/1", False),
        ("STAT", "1", "0", f"{name}/a/1", False),
        ("COPY", "1", "0", f"{name}/a/2", False),
        ("LIST", "2", "0", f"{name}/a", False),
        ("PUT", "1", "7", f"{name}/w", False),
        ("DELETE", "1", "0", f"{name}/a/2", False),
        ("GET", "1", "0", f"{name}/none", True),
    ]
    assert [r["idx"] for r in found] == [str(n) for n in range(11)]
    assert {r["thread"] for r in found} == {"0"}
    assert {r["endpoint"] for r in found} == {f"memory://{name}"}
    assert {r["client_id"] for r in found} == {f"{os.uname().nodename}-{os.getpid()}"}
    assert "no such object" in found[-1]["error"]
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
    assert all(moment.fullmatch(r["start"]) and moment.fullmatch(r["end"]) for r in found)
    assert [bool(moment.fullmatch(r["first_byte"])) for r in found] == [r["op"] == "LIST" for r in found]
    for r in found:
        assert r["start"] <= (r["first_byte"] or r["start"]) <= r["end"]


def test_read_op_log(path, name):
    with op_log(path, client_id="node 7"), open_store(f"memory://{name}") as store:
        store.put('quo"ted', b"12345")
        with pytest.raises(NotFoundError):
            store.head(" 'none'")
    table = read_op_log(path)
    assert table.schema.equals(OP_LOG_SCHEMA)
    assert table["file"].to_pylist() == [f'{name}/quo"ted', f"{name}/ 'none'"]
    assert table["client_id"].to_pylist() == ["node 7"] * 2
    assert table["error"][0].as_py() == ""
    assert "no such object" in table["error"][1].as_py()
    assert table["first_byte"].null_count == 2
    took = pa.compute.subtract(table["end"].cast(pa.int64()), table["start"].cast(pa.int64()))
    assert took.to_pylist() == table["duration_ns"].to_pylist()


def test_plain_text_and_an_empty_log(tmp_path):
    with op_log(tmp_path / "ops.tsv"):
        pass
    assert (tmp_path / "ops.tsv").read_text() == HEADER
    assert read_op_log(tmp_path / "ops.tsv").equals(OP_LOG_SCHEMA.empty_table())
    with op_log(tmp_path / "ops.tsv"), open_store(tmp_path) as store:
        store.put(str(tmp_path / "x").lstrip("/"), b"1")
    (row,) = rows(tmp_path / "ops.tsv")
    assert (row["endpoint"], row["file"]) == ("file://", str(tmp_path / "x"))


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.text(), st.integers(0, 2**62), st.integers(0, 2**61), st.integers(0, 2**40))
    )
)
def test_any_text_comes_back(tmp_path_factory, records):
    lines = Lines("c")
    text = lines.of(
        [Operation(5, "GET", 1, size, "e", file, error, 1 + start, 0, 1 + start + took)
         for file, error, size, start, took in records]
    )  # fmt: skip
    path = tmp_path_factory.mktemp("log") / "log.tsv"
    path.write_bytes(HEADER.encode() + text)
    assert text.decode().count("\n") == len(records) == len(text.decode().splitlines())
    table = read_op_log(path)
    by_csv = rows(path)

    def kept(field):
        return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]+", " ", field.encode(errors="backslashreplace").decode())

    assert [row["file"] for row in by_csv] == [kept(file) for file, *_ in records] == table["file"].to_pylist()
    assert [row["error"] for row in by_csv] == [kept(error) for _, error, *_ in records] == table["error"].to_pylist()
    assert table["start"].cast(pa.int64()).to_pylist() == [1 + start for *_, start, _ in records]
    assert table["duration_ns"].to_pylist() == [took for *_, took in records]


def test_logs_of_warp_and_of_rust(tmp_path):
    """Zone offsets, short fractions, quoted fields with line breaks escaped by nobody but the quotes."""
    (tmp_path / "warp.csv").write_text(
        HEADER + "0\t65535\tGET\tabcd\t1\t10\thttp://a:9000\tx/y.rnd\t\t2026-01-02T03:04:05.1+01:00\t"
        "2026-01-02T03:04:05.2+01:00\t2026-01-02T03:04:05.3+01:00\t200000000\n"
        '1\t0\tPUT\t\t1\t10\thttp://a:9000\tx\t"said ""no"""\t2026-01-02T03:04:05Z\t\t'
        "2026-01-02T03:04:06Z\t1000000000\n"
    )
    table = read_op_log(tmp_path / "warp.csv")
    assert table["start"].cast(pa.timestamp("ms", "UTC"))[0].as_py().isoformat() == "2026-01-02T02:04:05.100000+00:00"
    assert table["error"].to_pylist() == ["", 'said "no"']


@pytest.mark.parametrize("content", [b"", b"idx\n", b"PK\3\4", b"\x28\xb5\x2f\xfdnonsense"])
def test_what_is_no_log(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match="read op log"):
        read_op_log(tmp_path / "x")
    with pytest.raises(NotFoundError):
        read_op_log(tmp_path / "none")


def test_a_damaged_line(tmp_path):
    (tmp_path / "x").write_text(HEADER + "0\t0\tGET\n")
    with pytest.raises(FormatError, match="damaged"):
        read_op_log(tmp_path / "x")


def test_a_cut_log_gives_its_complete_records(path):
    """Frames as the log writes them, cut at every byte: all records of the whole frames, and never a wrong one."""
    codec, lines = pa.Codec("zstd"), Lines("c")
    operations = [Operation(1, "GET", 1, n, "e", f"key-{n}", "", 1 + n, 0, 2 + n) for n in range(30)]
    frames = [codec.compress(HEADER.encode(), asbytes=True)]
    frames += [codec.compress(lines.of(operations[n : n + 10]), asbytes=True) for n in (0, 10, 20)]
    raw = b"".join(frames)
    path.write_bytes(raw)
    whole = read_op_log(path)
    assert whole["bytes"].to_pylist() == list(range(30))
    for cut in range(len(frames[0]), len(raw)):
        path.write_bytes(raw[:cut])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            part = read_op_log(path)
        sizes = [sum(map(len, frames[: n + 1])) for n in range(4)]
        assert bool(said) == (cut not in sizes), "between two frames nothing is missing that can be noticed"
        assert part.num_rows >= 10 * (sum(size <= cut for size in sizes) - 1)
        assert part.equals(whole.slice(0, part.num_rows))


def test_a_line_cut_in_plain_text(tmp_path):
    path = tmp_path / "ops.tsv"
    with op_log(path), open_store("memory://cut") as store:
        store.put("1", b"1")
        store.put("2", b"1")
    path.write_text(path.read_text()[:-5])
    with pytest.warns(UserWarning, match="end is missing"):
        assert read_op_log(path)["file"].to_pylist() == ["cut/1"]


def test_writers_end_in_one_line(path, name):
    with op_log(path), open_store(f"memory://{name}") as store:
        with pytest.raises(ZeroDivisionError), store.open_writer("raised") as writer:
            writer.write(b"123")
            raise ZeroDivisionError("by the user")
        writer = store.open_writer("aborted")
        writer.write(b"1234")
        writer.abort()
        writer.abort()
        writer = store.open_writer("closed")
        writer.flush()
        result = writer.close()
        assert writer.close() == result
        with pytest.raises(ClosedError):
            writer.write(b"late")
        with pytest.raises(OptionError):
            store.open_writer("directory/")
    assert [(r["file"].partition("/")[2], r["bytes"], r["error"][:11]) for r in rows(path)] == [
        ("raised", "3", "by the user"),
        ("aborted", "4", "aborted"),
        ("closed", "0", ""),
        ("directory/", "0", "open_writer"),
    ]


def test_a_listing_that_is_given_up(path, name):
    with op_log(path), open_store(f"memory://{name}") as store:
        store.put("1", b"1")
        listing = store.list()
        next(listing)
        listing.close()
        del listing
        store.list()  # asks for nothing, so it is no operation
        with pytest.raises(OptionError):
            store.list("a//b")
    assert [(r["op"], r["n_objects"], bool(r["error"])) for r in rows(path)] == [
        ("PUT", "1", False), ("LIST", "1", False), ("LIST", "0", True)
    ]  # fmt: skip


def test_through_the_filesystem(path, name):
    with op_log(path), open_store(f"memory://{name}") as store:
        pq.write_table(pa.table({"x": [1, 2]}), store.path("t.parquet"), filesystem=store.filesystem)
        assert pq.read_table(store.path("t.parquet"), filesystem=store.filesystem)["x"].to_pylist() == [1, 2]
    ops = [r["op"] for r in rows(path)]
    assert ops.count("PUT") == 1
    assert ops.count("GET") >= 1


def test_urls_are_logged_without_their_secrets(path):
    with op_log(path), open_store("http://user:hidden@127.0.0.1:1/", max_attempts=1) as store:
        with pytest.raises(StorageError):
            store.get("a?X-Amz-Signature=hidden&x=1")
        with pytest.raises(StorageError):
            store.put("b?sig=hidden", b"")
    (get, put) = rows(path)
    assert "hidden" not in str([get, put])
    assert get["endpoint"] == "http://user:***@127.0.0.1:1"
    assert get["file"].startswith("user:***@127.0.0.1:1/a?X-Amz-Signature=")


def test_who_is_logged(tmp_path, name):
    """Stores opened in the block, in its thread or in threads without a block; not those from before or after."""
    before = open_store(f"memory://{name}")
    assert active_op_log() is None
    with op_log(tmp_path / "outer") as outer:
        assert active_op_log() is outer
        store = open_store(f"memory://{name}")
        with op_log(tmp_path / "inner") as inner:
            assert active_op_log() is inner
            open_store(f"memory://{name}").put("inner", b"")
            store.put("outer", b"")
        assert active_op_log() is outer
        seen = []

        def work():
            seen.append(active_op_log())
            with op_log(tmp_path / "thread") as own:
                seen.append(active_op_log() is own)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE_S)
        assert seen == [outer, True]
        assert active_op_log() is outer
        before.put("before", b"")
    assert active_op_log() is None
    store.put("after", b"")
    assert [r["file"] for r in rows(tmp_path / "outer")] == [f"{name}/outer"]
    assert [r["file"] for r in rows(tmp_path / "inner")] == [f"{name}/inner"]
    assert rows(tmp_path / "thread") == []


def test_nothing_is_lost_under_load(path, name, monkeypatch):
    """Many threads, and room for so few records that every one of them has to wait."""
    monkeypatch.setattr(module, "_CAPACITY", 8)
    with op_log(path), open_store(f"memory://{name}") as store:
        threads = [
            threading.Thread(target=lambda n=n: [store.put(f"{n}-{i}", b"") for i in range(500)], daemon=True)
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    found = rows(path)
    assert [int(r["idx"]) for r in found] == list(range(4000))
    assert sorted(r["file"] for r in found) == sorted(f"{name}/{n}-{i}" for n in range(8) for i in range(500))
    assert {int(r["thread"]) for r in found} == set(range(len({r["thread"] for r in found})))
    by_thread = {r["file"].split("/")[1].split("-")[0]: set() for r in found}
    for r in found:
        by_thread[r["file"].split("/")[1].split("-")[0]].add(r["thread"])
    assert all(len(numbers) == 1 for numbers in by_thread.values()), "a thread has one number"


def test_a_log_is_used_once(path):
    with op_log(path) as log, pytest.raises(ClosedError), log:
        pass
    with pytest.raises(ClosedError), log:
        pass
    assert log.closed


def test_one_log_for_a_file(path):
    with op_log(path), pytest.raises(OptionError, match="another log of this process"), op_log(path):
        pass
    with op_log(path):
        pass


def test_where_no_file_can_be_made(tmp_path):
    with pytest.raises(NotFoundError, match="none/ops"), op_log(tmp_path / "none" / "ops.tsv"):
        pass
    assert active_op_log() is None


def test_a_disk_that_is_full_from_the_start(path, monkeypatch, open_files):
    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    before = open_files()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StorageError, match="No space left"), op_log(path):
            pass
    assert open_files() == before
    assert active_op_log() is None
    with op_log(path):
        pass


def test_a_full_disk(path, name, monkeypatch):
    """The operations go on, with one warning; leaving the block raises; what was written before can be read."""
    monkeypatch.setattr(module, "_GATHER_S", 0)
    failed = threading.Event()
    write = os.write

    def full(descriptor, data):
        if full.on:
            write(descriptor, bytes(data)[:3])
            failed.set()
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    full.on = False
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space left"), op_log(path) as log:
        store = open_store(f"memory://{name}")
        store.put("1", b"")
        while path.stat().st_size <= len(log._file()._codec.compress(HEADER.encode(), asbytes=True)):
            store.head("1")
        full.on = True
        store.put("2", b"")
        assert failed.wait(PATIENCE_S)
        log._file()._drain._thread.join(PATIENCE_S)
        with pytest.warns(RuntimeWarning, match="No space left"):
            store.put("3", b"")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store.put("4", b"")
        assert store.get("4").size == 0
        full.on = False
    files = read_op_log(path)["file"].to_pylist()
    assert files[0] == f"{name}/1"
    assert f"{name}/2" not in files


def test_pickled_in_this_process(path, name):
    with op_log(path) as log:
        store = open_store(f"memory://{name}")
        other = pickle.loads(pickle.dumps(store))
        assert other._log is log
        other.put("1", b"")
        pickled = pickle.dumps(store)
    late = pickle.loads(pickled)
    late.put("2", b"")
    assert [r["file"] for r in rows(path)] == [f"{name}/1"]


def beside(path):
    """The files of other processes."""
    return sorted(set(path.parent.iterdir()) - {path})


def test_a_forked_child_writes_beside(path, name):
    with op_log(path), open_store(f"memory://{name}") as store:
        store.put("parent", b"")
        pid = os.fork()
        if pid == 0:
            try:
                store.put("child", b"")
                open_store(f"memory://{name}").put("child's own", b"")
                active_op_log().close()
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        store.put("after", b"")
    assert [r["file"] for r in rows(path)] == [f"{name}/parent", f"{name}/after"]
    (other,) = beside(path)
    assert other.name == f"ops.{os.uname().nodename}-{pid}.tsv.zst"
    assert [r["file"] for r in rows(other)] == [f"{name}/child", f"{name}/child's own"]
    assert {r["client_id"] for r in rows(other)} == {f"{os.uname().nodename}-{pid}"}


def put_some(store, count):
    for n in range(count):
        store.put(f"worker-{n}", b"")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes(path, name, method):
    """Each writes a file of its own, complete at its end, which nobody has to announce."""
    with op_log(path), open_store(f"memory://{name}") as store:
        context = multiprocessing.get_context(method)
        workers = [context.Process(target=put_some, args=(store, 100)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(PATIENCE_S)
            assert worker.exitcode == 0
        store.put("parent", b"")
    assert [r["file"] for r in rows(path)] == [f"{name}/parent"]
    assert len(beside(path)) == 2
    for other in beside(path):
        assert [r["file"] for r in rows(other)] == [f"{name}/worker-{n}" for n in range(100)]


ENVIRONMENT = """
import os, sys
from s3dlio.storage.open import open_store
with open_store("memory://e") as store:
    store.put("first", b"")
    if len(sys.argv) > 1:
        exec(sys.argv[1])
    store.put("last", b"")
"""


def run(path, code="", expect=0):
    environment = {**os.environ, "S3DLIO_OP_LOG": str(path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ENVIRONMENT, code],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr
    return done


def test_by_the_environment(path):
    run(path)
    assert [r["file"] for r in rows(path)] == ["e/first", "e/last"]
    run(path)
    assert len(rows(path)) == 2, "a new run replaces the log"


CHILDREN = """
import pickle, subprocess
pid = os.fork()
if pid == 0:
    store.put("forked", b"")
    sys.exit(0)
os.waitpid(pid, 0)
own = "from s3dlio.storage.open import open_store; open_store('memory://e').put(sys.argv[1], b'')"
unpickled = "store = pickle.load(sys.stdin.buffer); store.put('pickled', b'');"
subprocess.run([sys.executable, "-c", "import sys;" + own, "beside"], check=True)
command = [sys.executable, "-c", "import pickle, sys;" + unpickled + own, "own"]
subprocess.run(command, input=pickle.dumps(store), check=True)
"""


def test_by_the_environment_in_children(path):
    run(path, CHILDREN)
    assert [r["file"] for r in rows(path)] == ["e/first", "e/last"]
    found = sorted([r["file"] for r in rows(other)] for other in beside(path))
    assert found == [["e/beside"], ["e/forked"], ["e/pickled", "e/own"]]


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("raise ValueError", 1)])
def test_by_the_environment_to_a_bad_end(path, end, code):
    run(path, end, code)
    assert [r["file"] for r in rows(path)] == ["e/first"]


def test_by_the_environment_to_nowhere(tmp_path):
    done = run(tmp_path / "none" / "ops.tsv", expect=1)
    assert "NotFoundError: open op log" in done.stderr


def test_killed(path):
    """What was gathered and written can be read; kill -9 leaves a whole frame or a cut one, never a mixture."""
    code = """
for n in range(100_000):
    store.put("many", b"")
    if os.path.getsize(os.environ["S3DLIO_OP_LOG"]) > 20_000:
        os.kill(os.getpid(), 9)
"""
    run(path, code, -signal.SIGKILL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = read_op_log(path)
    assert table.num_rows > 100
    assert table["idx"].to_pylist() == list(range(table.num_rows))


def test_a_file_that_another_process_writes(path):
    """The second of two processes takes a name of its own."""
    with op_log(path), open_store("memory://e") as store:
        store.put("here", b"")
        run(path)
    assert [r["file"] for r in rows(path)] == ["e/here"]
    (other,) = beside(path)
    assert [r["file"] for r in rows(other)] == ["e/first", "e/last"]


def test_a_finalizer_that_ends_a_listing_inside_of_a_put(path, name):
    """Garbage is collected anywhere, also where the log holds its lock."""
    threshold = gc.get_threshold()
    with op_log(path), open_store(f"memory://{name}") as store:
        store.put("1", b"1")
        gc.set_threshold(1)
        try:
            for _ in range(200):
                listing = store.list()
                next(listing)
                cycle = [listing]
                cycle.append(cycle)
                del listing, cycle
                store.head("1")
        finally:
            gc.set_threshold(*threshold)
        gc.collect()
    assert [r["op"] for r in rows(path)].count("LIST") == 200


class TestLoggedMemory(StoreSuite):
    """A logged store is the store."""

    @pytest.fixture
    def store(self, name, path):
        with op_log(path), open_store(f"memory://{name}") as store:
            assert isinstance(store, LoggedStore)
            yield store
            store.clear()

    @pytest.fixture
    def raw(self, name, store):
        return RawMemory(name)


class TestLoggedLocal(StoreSuite):
    @pytest.fixture
    def prefix(self, tmp_path):
        return str(tmp_path / "objects").strip("/")

    @pytest.fixture
    def store(self, tmp_path, path):
        (tmp_path / "objects").mkdir()
        with op_log(path), open_store(tmp_path) as store:
            yield store

    @pytest.fixture
    def raw(self):
        return RawFiles("/")


def test_what_else_the_store_has(path, name):
    with op_log(path):
        store = open_store(f"memory://{name}")
    assert isinstance(store._store, MemoryStore)
    store.put("1", b"")
    store.clear()
    assert not hasattr(store, "nonsense")
    assert repr(store).startswith(f"LoggedStore(MemoryStore({name!r}), OpLog(")
