"""Processes that end in the middle of a transfer: by Ctrl-C, which leaves no trace, and by SIGKILL, which leaves no
object."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from s3dlio.errors import NotFoundError
from s3dlio.storage import open_store

from ..servers.fault_actions import delay_first_byte, stall
from .raw_objects import RawS3

PREPARE = """
import os, signal, sys, warnings
import s3dlio
from s3dlio.storage import open_store
warnings.simplefilter("error")

def interrupt(*args):
    os.write(1, b"interrupted\\n")
    signal.default_int_handler(*args)

signal.signal(signal.SIGINT, interrupt)
"""

PART = 16 << 20
PARTS = 6  # more than are on their way at a time


@contextlib.contextmanager
def running(script, *arguments):
    """A process of its own; killed if the test forgets it."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE + script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def interrupt(ends_at_once):
    """Press Ctrl-C, and let the server go on; what the process wrote to stderr. It must end in time, by the interrupt.

    Until it has noticed, the server holds it up: on a busy machine it would otherwise be done, or even in Python's own
    teardown, when the signal arrives.
    """

    def run(process, rule=None):
        assert process.poll() is None, process.communicate()[1]
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n", process.communicate()[1]
        if rule is not None:
            rule.release()
        _, said = process.communicate(timeout=60)
        took = time.monotonic() - began
        assert process.returncode == -signal.SIGINT, said
        assert "KeyboardInterrupt" in said
        # Python says that of a thread whose start the signal has hit (python/cpython#78667).
        assert "Exception ignored" not in said.replace("Exception ignored in thread started by", ""), said
        ends_at_once(took)
        return said

    return run


def wait_for(rule, process):
    """Until the proxy has got there; a process that dies first is an error with its words."""
    while not rule.reached.wait(0.2):
        assert process.poll() is None, process.communicate()[1]


@pytest.fixture
def bucket(faulty_buckets):
    return faulty_buckets


def names(directory):
    return [path.name for path in directory.iterdir()]


WRITE = f"""
data = os.urandom({PART} // 4)
with open_store(sys.argv[1], backend=sys.argv[2]) as store, store.open_writer("new") as writer:
    for _ in range(4 * {PARTS}):
        writer.write(data)
"""

PUT = f"""
with open_store(sys.argv[1], backend=sys.argv[2]) as store:
    store.put("new", os.urandom({PART}) * {PARTS})
"""

SMALL_PUT = """
with open_store(sys.argv[1], backend=sys.argv[2]) as store:
    store.put("new", b"small")
"""

UPLOAD = """
from s3dlio.transfer.upload import upload
upload(sys.argv[3], sys.argv[1] + "new", storage_options={"backend": sys.argv[2]})
"""

DOWNLOAD = """
from s3dlio.transfer.download import download
download(sys.argv[1] + "old", sys.argv[3], storage_options={"backend": sys.argv[2]})
"""

COPY = """
from s3dlio.transfer.copy import copy
options = {"backend": sys.argv[2]}
goal = options if sys.argv[3].startswith("s3") else None
copy(sys.argv[1] + "old", sys.argv[3], source_options=options, storage_options=goal)
"""

GET = """
with open_store(sys.argv[1], backend=sys.argv[2]) as store:
    store.get("old")
"""


def check_upload(bucket, *, stuck, told):
    """Nothing came of an interrupted upload.

    pyarrow has no means to abort one: there the object is whole or not there, and the upload may stay pending. So it
    may where the server has stopped answering, which would have to be waited for, and where the user was told.
    """
    found = bucket.raw.read("new")
    if bucket.backend == "native" or stuck:
        assert found is None, f"published {len(found)} bytes"
    assert found is None or len(found) == PART * PARTS
    if bucket.backend == "native" and not told:
        assert bucket.raw.unfinished("") == [], "a multipart upload is left behind"


slow_or_stuck = pytest.mark.parametrize("stuck", [False, True], ids=["slow", "stuck"])


def trouble(exchange):
    """Hold an answer back until the rule is released, and 0.1 s longer."""
    response = exchange.forward()
    exchange.wait()
    threading.Event().wait(0.1)
    exchange.answer(response)


@pytest.fixture
def press(interrupt):
    """Ctrl-C while a server takes 0.1 s for each request, or while one has stopped answering."""

    def run(process, rule, *, stuck):
        wait_for(rule, process)
        return interrupt(process, None if stuck else rule)

    return run


@slow_or_stuck
@pytest.mark.parametrize("script", [WRITE, PUT], ids=["writer", "put"])
def test_interrupt_of_a_multipart_upload(bucket, stuck, script, press, may_be_late):
    """In the middle of it."""
    rule = bucket.proxy.fail(trouble, method="PUT", query=bucket.parts, times=None)
    with running(script, bucket.uri(), bucket.backend) as process:
        said = press(process, rule, stuck=stuck)
    told = "Parts of the upload may stay on the server" in said
    assert not told or stuck or may_be_late, said
    check_upload(bucket, stuck=stuck, told=told)


def test_interrupt_of_a_small_put(bucket, interrupt):
    """The server never gets to answer; whether the object is there is not known, but half of it is not."""
    rule = bucket.proxy.fail(delay_first_byte(), method="PUT", times=None)
    with running(SMALL_PUT, bucket.uri(), bucket.backend) as process:
        wait_for(rule, process)
        interrupt(process)
    assert bucket.raw.read("new") in {None, b"small"}
    assert bucket.raw.unfinished("") == []


@slow_or_stuck
def test_interrupt_of_upload(bucket, stuck, tmp_path, press, may_be_late):
    (tmp_path / "file").write_bytes(os.urandom(PART) * PARTS)
    rule = bucket.proxy.fail(trouble, method="PUT", query=bucket.parts, times=None)
    with running(UPLOAD, bucket.uri(), bucket.backend, str(tmp_path / "file")) as process:
        said = press(process, rule, stuck=stuck)
    told = f"upload {bucket.uri('new')}: a request was still under way" in said
    remedy = (
        "lifecycle rule of the bucket" if bucket.proxy.scheme == "gs" else "aws s3api list-multipart-uploads --bucket"
    )
    assert told == (f"{remedy} {bucket.name}" in said)
    assert not told or stuck or may_be_late or bucket.backend == "arrow", said
    # The thread that writes may be between two parts, on a busy machine, and can then abort.
    assert told or not stuck or bucket.backend == "native", said
    check_upload(bucket, stuck=stuck, told=told)
    assert names(tmp_path) == ["file"]


@slow_or_stuck
def test_interrupt_of_upload_of_a_tree(faulty, stuck, tmp_path, press):
    """What was finished stays; of the rest there is nothing."""
    for number in range(40):
        (tmp_path / f"{number:02d}").write_bytes(b"x" * 10_000)
    rule = faulty.proxy.fail(trouble, method="PUT", skip=20, times=None)
    with running(UPLOAD, faulty.uri(), faulty.backend, str(tmp_path)) as process:
        press(process, rule, stuck=stuck)
    assert faulty.raw.unfinished("") == []
    with open_store(faulty.uri(), endpoint_url=faulty.proxy.upstream.endpoint_url, backend="arrow") as store:
        sizes = [row["size"] for page in store.list() for row in page.to_pylist()]
    assert set(sizes) <= {10_000}


@slow_or_stuck
def test_interrupt_of_download(bucket, stuck, tmp_path, press):
    bucket.raw.write("old", bytes(3 * PART))
    if bucket.google_by_arrow:
        return  # cannot be interrupted, where the server is stuck: see storage.arrow.google
    rule = bucket.proxy.fail(trouble, method="GET", path="/old$", skip=1, times=None)
    with running(DOWNLOAD, bucket.uri(), bucket.backend, str(tmp_path / "file")) as process:
        press(process, rule, stuck=stuck)
    assert names(tmp_path) == []


@slow_or_stuck
def test_interrupt_of_a_relay_to_a_disk(faulty, stuck, disk, press, may_be_late):
    """At the object's third part, or one after it."""
    faulty.raw.write("old", os.urandom(3 * PART))
    rule = faulty.proxy.fail(trouble, method="GET", path="/old$", skip=2, times=None)
    with running(COPY, faulty.uri(), faulty.backend, f"direct://{disk}/new") as process:
        said = press(process, rule, stuck=stuck)
    told = f"copy direct://{disk}/new: a write was still under way" in said
    assert not told or may_be_late, said
    assert told == ("may stay" in said), said
    left = names(disk)
    assert left == [] or (told and [name.startswith(".s3dlio-") for name in left] == [True]), left


@slow_or_stuck
def test_interrupt_of_a_relay_to_a_server(faulty, stuck, press, may_be_late):
    """Where its source is in trouble."""
    faulty.raw.write("old", os.urandom(4 * PART))
    rule = faulty.proxy.fail(trouble, method="GET", path="/old$", skip=5, times=None)
    target = faulty.proxy.new_container()
    with running(COPY, faulty.uri(), faulty.backend, f"{faulty.proxy.scheme}://{target}/new") as process:
        said = press(process, rule, stuck=stuck)
    told = f"copy {faulty.proxy.scheme}://{target}/new: a request was still under way" in said
    assert not told or may_be_late, said
    with contextlib.closing(RawS3(faulty.proxy.upstream, target)) as raw:
        assert raw.read("new") is None
        assert told or raw.unfinished("") == []


@slow_or_stuck
def test_interrupt_of_download_of_a_tree(faulty, stuck, tmp_path, press):
    for number in range(40):
        faulty.raw.write(f"old/{number:02d}", b"x" * 10_000)
    rule = faulty.proxy.fail(trouble, method="GET", path="/old/", skip=20, times=None)
    with running(DOWNLOAD, faulty.uri(), faulty.backend, str(tmp_path / "tree")) as process:
        press(process, rule, stuck=stuck)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.stat().st_size for path in left} <= {10_000}
    assert not [path for path in left if path.name.startswith(".")]


def test_interrupt_of_a_stalled_read(bucket, interrupt):
    bucket.raw.write("old", bytes(100_000))
    rule = bucket.proxy.fail(stall(after=50_000), method="GET", query=bucket.reads, times=None)
    with running(GET, bucket.uri(), bucket.backend) as process:
        wait_for(rule, process)
        interrupt(process)


def test_interrupt_of_a_listing(bucket, interrupt):
    script = "list(open_store(sys.argv[1], backend=sys.argv[2]).list())"
    rule = bucket.proxy.fail(stall(), query=bucket.lists, times=None)
    with running(script, bucket.uri(), bucket.backend) as process:
        wait_for(rule, process)
        interrupt(process)


LOCAL_WRITE = """
key = sys.argv[1].partition("://")[2].lstrip("/") + "/new"
with open_store(sys.argv[1]) as store, store.open_writer(key) as writer:
    writer.write(bytes(5 << 20))
    print("ready", flush=True)
    for line in sys.stdin:
        pass
"""


@pytest.mark.parametrize("scheme", ["file", "direct"])
def test_interrupt_of_a_local_writer(disk, scheme, interrupt):
    with running(LOCAL_WRITE, f"{scheme}://{disk}") as process:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        assert len(names(disk)) == 1
        interrupt(process)
    assert names(disk) == []


@pytest.mark.parametrize("scheme", ["file", "direct"])
def test_a_killed_local_writer(disk, scheme):
    """A temporary file may stay, which no listing shows; a later writer is not hindered."""
    key = f"{str(disk)[1:]}/new"
    with running(LOCAL_WRITE, f"{scheme}://{disk}") as process:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
        process.kill()
        process.wait()
    assert all(name.startswith(".s3dlio-") for name in names(disk))
    with open_store(f"{scheme}://{disk}") as store:
        assert [*store.list(str(disk)[1:])] == []
        with pytest.raises(NotFoundError):
            store.head(key)
        store.put(key, b"later")
        assert store.get(key).to_pybytes() == b"later"
        assert [row["key"] for page in store.list(str(disk)[1:]) for row in page.to_pylist()] == [key]


@pytest.mark.parametrize("overwriting", [False, True])
def test_a_killed_remote_writer(bucket, overwriting):
    """Nothing new is visible; what was there before is."""
    if overwriting:
        bucket.raw.write("new", b"before")
    rule = bucket.proxy.fail(delay_first_byte(), method="PUT", query=bucket.parts, times=None)
    with running(WRITE, bucket.uri(), bucket.backend) as process:
        wait_for(rule, process)
        process.kill()
        process.wait()
    bucket.proxy.clear()
    expected = b"before" if overwriting else None
    assert bucket.raw.read("new") == expected
    with bucket.open() as store:
        keys = [row["key"] for page in store.list() for row in page.to_pylist()]
        assert keys == (["new"] if overwriting else [])
        store.put("new", b"later")
    assert bucket.raw.read("new") == b"later"


@pytest.fixture
def disk(tmp_path):
    """A directory on a file system that has O_DIRECT."""
    return tmp_path
