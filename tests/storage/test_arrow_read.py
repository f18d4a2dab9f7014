import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from s3dlio.storage.arrow import read
from s3dlio.storage.arrow.read import read_into


class File:
    """Says that it has read all that was asked for, as pyarrow's S3 file does, but has only ``data``."""

    def __init__(self, data, honest=False, chunk=None):
        self.data = data
        self.honest = honest
        self.chunk = chunk
        self.position = 0
        self.reads = 0

    def seek(self, position):
        self.position = position

    def readinto(self, view):
        self.reads += 1
        if self.chunk:
            view = view[: self.chunk]
        found = self.data[self.position : self.position + len(view)]
        view[: len(found)] = found
        count = len(found) if self.honest else len(view)
        self.position += count
        return count


DATA = bytes(range(256))


@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 100])
@pytest.mark.parametrize("chunk", [None, 1, 9])
def test_whole(start, size, chunk):
    memory = bytearray(size)
    assert read_into(File(DATA, chunk=chunk), memoryview(memory), start) == size
    assert memory == DATA[start : start + size]


@pytest.mark.parametrize("missing", [1, 2, 15, 16, 17, 99, 100])
@pytest.mark.parametrize("honest", [True, False])
def test_what_did_not_come_is_noticed(missing, honest):
    """A dishonest count is told from the mark, at least for its last 16 bytes: short is short."""
    done = read_into(File(DATA[: 100 - missing], honest=honest), memoryview(bytearray(100)), 0)
    assert done < 100
    if honest or missing <= 16:
        assert done == 100 - missing


@pytest.mark.parametrize("alike", [1, 5, 16])
@pytest.mark.parametrize("missing", [0, 1, 16, 50])
def test_bytes_that_are_the_mark_by_chance(monkeypatch, alike, missing):
    """They cost a second read, and are told from a mark that is still there."""
    mark = b"\xff" * (16 - alike) + DATA[100 - alike : 100]
    monkeypatch.setattr(read, "_MARK", mark)
    file = File(DATA[: 100 - missing])
    memory = bytearray(100)
    done = read_into(file, memoryview(memory), 0)
    assert (done == 100) == (missing == 0)
    assert file.reads == 2
    if done == 100:
        assert memory == DATA[:100]


def file_of(save, *arguments):
    memory = io.BytesIO()
    save(memory, *arguments)
    return memory.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        bytes(1000),
        b"\xff" * 1000,
        b"a line\n" * 9,
        "Größe, 大きさ, размер".encode(),
        "Россия".encode(),
        "with love \u2764\ufe0f".encode(),
        json.dumps([{"key": 1}] * 9).encode(),
        file_of(np.save, np.linspace(-1, 1, 999, dtype=np.float32)),
        file_of(np.save, np.arange(-500, 500)),
        file_of(np.savez, np.arange(5)),
        gzip.compress(b"abc", mtime=0),
        file_of(lambda memory: parquet.write_table(pa.table({"x": [1, 2]}), memory)),
    ],
    ids=["zeros", "ones", "text", "utf-8", "cyrillic", "emoji", "json", "floats", "integers", "npz", "gzip", "parquet"],
)
def test_what_files_end_with_costs_one_read(data):
    file = File(data)
    assert read_into(file, memoryview(bytearray(len(data))), 0) == len(data)
    assert file.reads == 1
