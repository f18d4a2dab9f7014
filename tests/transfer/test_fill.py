import io
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import zlib

import h5py
import numpy as np
import pyarrow.fs as pafs
import pytest

import s3dlio
from s3dlio import generate
from s3dlio.errors import ExistsError, MissingExtraError, OptionError, StorageError
from s3dlio.transfer import fill

from ..servers.fault_actions import delay_first_byte, status


@pytest.fixture
def prefix(tmp_path):
    return f"{tmp_path}/made"


def made(prefix):
    return {entry["key"].rpartition("/")[2]: s3dlio.get(entry) for entry in s3dlio.list(str(prefix))}


def test_objects_on_every_server(server):
    """The guide: "Generate multiple files"."""
    prefix = f"{server.scheme}://{server.new_container()}/training/"
    result = s3dlio.put(
        prefix=prefix,
        num=20,
        template="sample_{:06d}.npz",
        object_type="npz",
        size=10_000,
        max_in_flight=16,
    )
    assert (result.objects, result.bytes, result.skipped) == (20, 200_000, 0)
    found = made(prefix)
    assert [*found] == [f"sample_{n:06d}.npz" for n in range(20)]
    assert {len(data) for data in found.values()} == {10_000}
    arrays = [np.load(io.BytesIO(data))["data"] for data in found.values()]
    assert len({array.tobytes() for array in arrays}) == 20


def records(data):
    """The features of a TFRecord file of whole records. Their form is what tests/s3dlio_tf looks at."""
    assert len(data) % (128 << 10) == 0
    return b"".join(data[at + 43 : at + (128 << 10) - 4] for at in range(0, len(data), 128 << 10))


CONTENT = {
    "random": lambda data: data,
    "zeros": lambda data: data,
    "npy": lambda data: np.load(io.BytesIO(data)),
    "npz": lambda data: np.load(io.BytesIO(data))["data"],
    "hdf5": lambda data: h5py.File(io.BytesIO(data))["data"][()],
    "tfrecord": records,
}


@pytest.mark.parametrize("object_type", [*CONTENT])
def test_types(prefix, object_type):
    s3dlio.put(prefix, 2, "{}", object_type=object_type, size=3 << 17)
    found = made(prefix)
    assert {len(data) for data in found.values()} == {3 << 17}
    one, other = (bytes(CONTENT[object_type](data)) for data in found.values())
    assert len(one) > 390_000
    assert (one == other) == (object_type == "zeros")
    assert (one == bytes(len(one))) == (object_type == "zeros")


@pytest.mark.parametrize("object_type", ["random", "npy", "npz", "hdf5", "tfrecord"])
def test_compression(prefix, object_type):
    s3dlio.put(prefix, 1, "x", object_type=object_type, size=1 << 20, compress_factor=4)
    assert len(zlib.compress(made(prefix)["x"], 1)) == pytest.approx((1 << 20) / 4, rel=0.25)


def test_repetition(prefix):
    s3dlio.put(prefix, 1, "x", size=400 << 10, dedup_factor=4)
    data = made(prefix)["x"]
    assert len({data[at : at + 4096] for at in range(0, len(data), 4096)}) == 25


def test_the_same_call_makes_the_same_bytes(tmp_path):
    s3dlio.put(tmp_path / "a", 3, size=100)
    first = made(tmp_path / "a")
    s3dlio.put(tmp_path / "b", 3, size=100)
    assert not {*first.values()} & {*made(tmp_path / "b").values()}, "validation data is not training data"
    s3dlio.put(tmp_path / "a", 3, "val_{}", size=100)
    assert len({*made(tmp_path / "a").values()}) == 6
    s3dlio.delete(f"{tmp_path}/a", recursive=True)
    s3dlio.put(f"{tmp_path}/a/", 3, size=100)
    assert made(tmp_path / "a") == first
    s3dlio.put(tmp_path / "c", 3, size=100, seed=7)
    s3dlio.put(tmp_path / "d", 3, size=100, seed=7)
    assert made(tmp_path / "c") == made(tmp_path / "d") != first
    assert made(tmp_path / "c")["object_2"] == generate.payload(100, seed=7, index=2).tobytes()


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{}", ["0", "1", "2"]),
        ("a/{0:02}_of_{1}", ["00_of_3", "01_of_3", "02_of_3"]),
        ("{}_of_{}", ["0_of_3", "1_of_3", "2_of_3"]),
        ("{{}}{:x}", ["{}0", "{}1", "{}2"]),
    ],
)
def test_names(prefix, template, names):
    s3dlio.put(prefix, 3, template, size=1)
    assert [
        entry["key"].rpartition("/made/a/" if "/" in template else "/")[2] for entry in s3dlio.list(prefix)
    ] == names


def test_one_object_needs_no_number(prefix):
    s3dlio.put(prefix, template="result.bin", size=10)
    assert [*made(prefix)] == ["result.bin"]


def test_none(prefix):
    assert s3dlio.put(prefix, 0, size=10).objects == 0
    assert not s3dlio.list(prefix)


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        ({"num": -1}, "num", "num is -1, expected a whole number >= 0"),
        ({"num": True}, "num", "num is True"),
        ({"num": b"content"}, "num", "num is bytes, .*put_bytes"),
        ({"size": 1.5}, "size", "size is 1.5"),
        ({"num": 2, "template": "x"}, "template", "gives the name 'x' twice, expected 2 different ones"),
        ({"num": 11, "template": "{:0<2}"}, "template", "gives the name '10' twice"),
        ({"template": "{name}"}, "template", "cannot be filled in .*'name'.*{:06d}"),
        ({"template": "{2}"}, "template", "cannot be filled in"),
        ({"template": "{:q}"}, "template", "cannot be filled in"),
        ({"template": "{"}, "template", "cannot be filled in"),
        ({"template": None}, "template", "cannot be filled in"),
        ({"template": "../{}"}, "key", r"expected path segments"),
        ({"object_type": "jpeg"}, "object_type", "'jpeg', expected one of random, zeros, npy, npz, hdf5, tfrecord"),
        ({"object_type": "npz", "size": 10}, "size", "size 10, expected 242"),
        ({"object_type": "hdf5", "size": 10}, "size", "size 10, expected more than"),
        ({"object_type": "tfrecord", "size": 46}, "size", "size 46, expected at least 47"),
        ({"compress_factor": 0.5}, "compress_factor", "0.5, expected a ratio of 1 or more"),
        ({"dedup_factor": "2"}, "dedup_factor", "'2', expected a ratio"),
        ({"object_type": "zeros", "compress_factor": 2}, "compress_factor", "2 for zeros, expected 1.*object_type"),
        ({"compress_factor": float("inf")}, "compress_factor", "inf, expected a ratio"),
        ({"max_in_flight": 0}, "max_in_flight", "max_in_flight is 0"),
        ({"mode": "creat"}, "mode", "mode is 'creat'"),
        ({"num": 0, "mode": "creat"}, "mode", "mode is 'creat'"),
        ({"mode": ["create"]}, "mode", "mode is "),
        ({"seed": -1}, "seed", "seed is -1, expected a whole number from 0"),
        ({"seed": 1 << 64}, "seed", "seed is 18446744073709551616"),
        ({"num": 0, "seed": 1.5}, "seed", "seed is 1.5"),
        ({"seed": "7"}, "seed", "seed is '7'"),
        ({"seed": True}, "seed", "seed is True"),
    ],
)
def test_bad_values(prefix, arguments, field, words):
    with pytest.raises(OptionError, match=words) as caught:
        s3dlio.put(prefix, **{"num": 1, "template": "{}", "size": 100, **arguments})
    assert caught.value.field == field
    assert not s3dlio.list(prefix)


def test_numbers_of_numpy(prefix):
    result = s3dlio.put(prefix, np.int64(2), size=np.uint8(200), seed=np.uint64(7))
    assert repr(result).startswith("TransferResult(objects=2, bytes=400,")
    assert made(prefix)["object_1"] == generate.payload(200, seed=7, index=1).tobytes()


@pytest.mark.parametrize("ratio", [1, 1.01])
@pytest.mark.parametrize("object_type", ["random", "npy", "npz", "hdf5", "tfrecord"])
def test_memory_of_an_object(object_type, ratio):
    """What the budget counts on."""
    make, size = getattr(generate, "payload" if object_type == "random" else object_type), 8 << 20
    make(2000, seed=1, index=0)  # what is loaded when first used
    tracemalloc.start()
    try:
        make(size, seed=1, index=0, compress=ratio, dedup=ratio)
        assert tracemalloc.get_traced_memory()[1] < (fill._HELD + 0.2) * size
    finally:
        tracemalloc.stop()


def test_without_h5py(prefix, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 's3dlio-arrow[hdf5]'")):
        s3dlio.put(prefix, object_type="hdf5", size=10_000)


def test_what_cannot_be_written():
    with pytest.raises(StorageError, match="read-only"):
        s3dlio.put("http://127.0.0.1:9/x", size=1)


def test_creating_only(prefix):
    s3dlio.put(prefix, 2, size=1)
    with pytest.raises(ExistsError, match="object_"):
        s3dlio.put(prefix, 3, size=1, mode="create")


def test_a_filesystem_of_ones_own(tmp_path):
    own = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    s3dlio.put("x/y", 2, size=5, filesystem=own)
    assert sorted(path.name for path in (tmp_path / "x/y").iterdir()) == ["object_0", "object_1"]


def test_progress(prefix):
    news = []
    s3dlio.put(prefix, 3, size=50, progress=news.append)
    assert [(one.objects_done, one.bytes_done) for one in news] == [(0, 0), (1, 50), (2, 100), (3, 150)]
    assert {(one.objects_total, one.bytes_total) for one in news} == {(3, 150)}
    assert sorted(one.current.rpartition("/")[2] for one in news[1:]) == ["object_0", "object_1", "object_2"]


def test_the_first_failure_ends_it(fault_proxy):
    fault_proxy.fail(status(403, "AccessDenied"), method="PUT", path="/object_3$", times=None)
    uri = f"s3://{fault_proxy.new_container()}/p"
    with pytest.raises(s3dlio.errors.AccessError, match="object_3"):
        s3dlio.put(uri, 1000, size=10, max_in_flight=2)
    assert fault_proxy.count("PUT", path="object_") < 50


def test_memory_is_bounded(prefix, monkeypatch):
    """A thread each for 64 objects, and room for few of them."""
    most, now = [0], [0]
    payload = generate.payload

    def counting(size, **options):
        now[0] += 1
        most[0] = max(most[0], now[0])
        return payload(size, **options)

    def moved(_):
        now[0] -= 1

    monkeypatch.setattr(fill.generate, "payload", counting)
    s3dlio.put(prefix, 24, size=24 << 20, object_type="zeros", progress=moved)
    assert 1 <= most[0] <= 7, "256 MiB hold five of them, twice"


PROGRAM = "import sys, s3dlio; s3dlio.put(sys.argv[1], 1000, size=1000)"


def test_ctrl_c(fault_proxy, ends_at_once):
    rule = fault_proxy.fail(delay_first_byte(), method="PUT", path="object_", skip=5, times=None)
    uri = f"s3://{fault_proxy.new_container()}/p"
    with subprocess.Popen([sys.executable, "-c", PROGRAM, uri], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert rule.reached.wait(60), process.poll()
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=60)[1]
            took = time.monotonic() - began
        finally:
            process.kill()
    assert said.rstrip().endswith("KeyboardInterrupt"), said
    ends_at_once(took)
