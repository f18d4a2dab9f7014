import os

import pytest

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
    monkeypatch.setattr(os, "urandom", lambda count: mark[-count:])
    file = File(DATA[: 100 - missing])
    memory = bytearray(100)
    done = read_into(file, memoryview(memory), 0)
    assert (done == 100) == (missing == 0)
    assert file.reads == 2
    if done == 100:
        assert memory == DATA[:100]


def test_the_second_read_is_rare():
    reads = 0
    for _ in range(1000):
        file = File(DATA)
        read_into(file, memoryview(bytearray(200)), 0)
        reads += file.reads
    assert reads < 1050
