"""``open_writer``: compression, verification, and that it closes what it opens."""

import errno
import io
import subprocess
import tempfile

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from s3dlio.errors import ClosedError, OptionError, PreconditionError, StorageError
from s3dlio.storage import MemoryStore, open_store, writing
from s3dlio.storage.protocol import WriteResult
from s3dlio.storage.writing import open_writer

from ..servers.fault_actions import run_before, status


@pytest.fixture
def memory():
    with MemoryStore("test-writing") as store:
        yield store
        store.clear()


@pytest.fixture(params=["memory", "local", "native", "arrow", "filesystem"])
def anywhere(request, tmp_path):
    """A function from a name to the arguments of ``open_writer`` and a reader of the object."""
    kind = request.param
    if kind == "memory":
        store = MemoryStore("test-writing-anywhere")
        yield lambda name: ((f"memory://test-writing-anywhere/{name}", {}), lambda: store.get(name).to_pybytes())
        store.clear()
        store.close()
    elif kind in {"local", "filesystem"}:
        options = {"filesystem": pafs.LocalFileSystem()} if kind == "filesystem" else {}
        yield lambda name: ((str(tmp_path / name), options), (tmp_path / name).read_bytes)
    else:
        server = request.getfixturevalue("moto_environment")
        bucket = server.new_container()
        with open_store(f"s3://{bucket}", backend=kind) as store:
            options = {"storage_options": {"backend": kind}}
            yield lambda name: ((f"s3://{bucket}/{name}", options), lambda: store.get(name).to_pybytes())


DATA = np.random.default_rng(7).integers(0, 4, 300_000, np.uint8)


@pytest.mark.parametrize("verify", [None, "size", "readback"])
def test_everywhere(anywhere, verify):
    (uri, options), read = anywhere("object.bin")
    with open_writer(uri, verify=verify, size_hint=DATA.size, **options) as writer:
        assert writer.write(DATA[:1000]) == 1000
        writer.flush()
        assert writer.write(DATA[1000:]) == DATA.size - 1000
    result = writer.close()
    assert isinstance(result, WriteResult)
    assert (result.size, result.parts) == (DATA.size, 1)
    assert result.checksum == f"crc32c:{google_crc32c.value(DATA.tobytes()):08x}"
    assert read() == DATA.tobytes()


@pytest.mark.parametrize(("name", "compression"), [("o.zst", "infer"), ("o.zstd", "infer"), ("o.bin", "zstd")])
@pytest.mark.parametrize("verify", [None, "readback"])
def test_compressed_everywhere(anywhere, name, compression, verify):
    """Size and checksum are those of what is stored."""
    (uri, options), read = anywhere(name)
    with open_writer(uri, compression=compression, verify=verify, **options) as writer:
        assert writer.write(DATA) == DATA.size
    result = writer.close()
    stored = read()
    assert result.size == len(stored) < DATA.size // 2
    assert result.checksum == f"crc32c:{google_crc32c.value(stored):08x}"
    assert decompressed(stored) == DATA.tobytes()


@pytest.mark.parametrize(("name", "compression"), [("o.zst", None), ("o.bin", "infer"), ("o.zst.bin", "infer")])
def test_not_compressed(memory, name, compression):
    with open_writer(f"memory://test-writing/{name}", compression=compression) as writer:
        writer.write(DATA)
    assert memory.get(name).to_pybytes() == DATA.tobytes()


@pytest.mark.parametrize(
    "sizes", [[], [0], [1], [10], [9, 1], [10, 10], [25], [3, 25, 3], [1] * 33, [9, 11, 10, 1, 0]], ids=str
)
@pytest.mark.parametrize("flushed", [False, True])
def test_frames(monkeypatch, memory, sizes, flushed):
    """Whatever the sizes of pieces and frames, both readers get the bytes back; nothing is one frame, too."""
    monkeypatch.setattr(writing, "_FRAME_BYTES", 10)
    data = DATA.tobytes()[: sum(sizes)]
    start = 0
    with open_writer("memory://test-writing/frames.zst", compression="infer") as writer:
        for size in sizes:
            writer.write(memoryview(data)[start : start + size])
            start += size
            if flushed:
                writer.flush()
    stored = memory.get("frames.zst").to_pybytes()
    assert decompressed(stored) == data
    assert pa.CompressedInputStream(pa.BufferReader(stored), "zstd").read() == data


def test_a_flush_passes_a_frame_on(memory):
    """What was written before it can be decompressed from what the store has by then: nothing waits in the codec."""
    seen = []

    class Below:
        def write(self, data):
            seen.append(bytes(data))

        def flush(self):
            seen.append("flush")

    sink = writing._Compressed(Below())
    sink.write(b"one")
    assert seen == []
    sink.flush()
    sink.flush()
    assert seen[1:] == ["flush", "flush"]
    assert decompressed(seen[0]) == b"one"


def decompressed(stored):
    """By the zstd tool: it shares no code with pyarrow's reader."""
    done = subprocess.run(["zstd", "-dc"], input=stored, capture_output=True, check=True)
    return done.stdout


@pytest.mark.parametrize("field", ["compression", "verify"])
def test_unknown_names(field):
    with pytest.raises(OptionError) as caught:
        open_writer("memory://test-writing/k", **{field: "gzip"})
    assert caught.value.field == field


@pytest.mark.parametrize("uri", ["memory://test-writing", "memory://test-writing/d/", "memory://test-writing/a//b"])
def test_what_is_no_object(uri):
    with pytest.raises(OptionError):
        open_writer(uri)


@pytest.mark.parametrize("compression", [None, "zstd"])
@pytest.mark.parametrize("verify", [None, "readback"])
@pytest.mark.parametrize("how", ["exception", "abort"])
def test_given_up_everywhere(anywhere, compression, verify, how):
    (uri, options), read = anywhere("given-up")
    writer = open_writer(uri, compression=compression, verify=verify, **options)
    writer.write(DATA)
    if how == "abort":
        writer.abort()
    else:
        with pytest.raises(KeyError), writer:
            raise KeyError
    with pytest.raises(FileNotFoundError):
        read()
    for call in (writer.close, writer.flush, lambda: writer.write(b"1")):
        with pytest.raises(ClosedError):
            call()


@pytest.mark.parametrize("verify", ["size", "readback"])
@pytest.mark.parametrize("backend", ["native", "arrow"])
@pytest.mark.parametrize("there", [b"shorter", b"another object!"])
def test_what_was_written_is_not_what_is_there(fault_proxy, backend, verify, there):
    """The error names both; the object stays, because it may be somebody else's."""
    uri, key = f"s3://{fault_proxy.container}/verified", "verified"

    def overwrite():
        with fault_proxy.upstream.client() as client:
            client.put_object(Bucket=fault_proxy.container, Key=key, Body=there)

    same_size = len(there) == 15
    fault_proxy.fail(run_before(overwrite), method="HEAD", path="verified$")
    writer = open_writer(uri, verify=verify, storage_options={"backend": backend})
    writer.write(b"what is written")
    if same_size and verify == "size":
        writer.close()
    else:
        with pytest.raises(StorageError) as caught:
            writer.close()
        if not same_size:
            assert "7 bytes" in str(caught.value)
            assert "15 bytes" in str(caught.value)
        elif not isinstance(caught.value, PreconditionError):  # native: the version it wrote is gone
            assert str(caught.value).count("crc32c:") == 2
    with open_store(uri) as store:
        assert store.get(key).to_pybytes() == there


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_reading_back_in_pieces(monkeypatch, memory, pieces):
    monkeypatch.setattr(writing, "_PIECE_BYTES", -(-DATA.size // pieces))
    with open_writer("memory://test-writing/pieces", verify="readback") as writer:
        writer.write(DATA)
    assert writer.close().size == DATA.size


def test_damage_is_noticed(monkeypatch, memory):
    """A flipped bit in the last piece."""
    monkeypatch.setattr(writing, "_PIECE_BYTES", 1000)
    damaged = DATA.copy()
    damaged[-1] ^= 4
    found = memory.put("k", damaged)
    monkeypatch.setattr(MemoryStore, "put", lambda *_, **__: found)
    with (
        pytest.raises(StorageError, match="crc32c") as caught,
        open_writer("memory://test-writing/k", verify="readback") as w,
    ):
        w.write(DATA)
    assert caught.value.operation == "verify"


def test_a_verification_that_cannot_be_made_is_an_error(fault_proxy):
    """It was asked for, so it is not left out."""
    fault_proxy.fail(status(403), method="HEAD", times=None)
    with (
        pytest.raises(PermissionError, match=r"^verify s3://"),
        open_writer(f"s3://{fault_proxy.container}/unverified", verify="size") as writer,
    ):
        writer.write(b"1")


def test_a_full_disk_under_the_spool(monkeypatch, moto_environment):
    """The arrow engine puts an object aside: the error says where, and nothing is sent."""
    monkeypatch.setattr("s3dlio.storage.spool._MEMORY_BYTES", 10)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: io.FileIO("/dev/full", "r+"))
    uri = f"s3://{moto_environment.container}/spooled"
    writer = open_writer(uri, storage_options={"backend": "arrow"})
    with pytest.raises(StorageError, match="TMPDIR") as caught:
        writer.write(bytes(100))
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert caught.value.uri == uri
    with pytest.raises(ClosedError):
        writer.close()
    with open_store(uri) as store, pytest.raises(FileNotFoundError):
        store.head("spooled")


def test_a_full_disk_under_a_file(tmp_path):
    writer = open_writer(tmp_path / "full")
    sink = writer._sink._writer._sink
    sink._pending._file.close()
    sink._pending._file = io.FileIO("/dev/full", "w")
    with pytest.raises(StorageError, match="Free some space"):
        writer.write(bytes(100))
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(ClosedError):
        writer.close()


@pytest.mark.parametrize("options", [{"compression": "x"}, {"verify": "x"}])
def test_a_wrong_option_shows_no_secret(options):
    with pytest.raises(OptionError, match=r"^open_writer https://u:\*\*\*@h/k\?sig=\*\*\*: got ") as caught:
        open_writer("https://u:word@h/k?sig=beef", **options)
    assert not any(secret in str(caught.value) for secret in ("beef", "word"))
