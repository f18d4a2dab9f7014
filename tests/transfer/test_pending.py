"""A file in parts: nothing to be seen before it is whole, nothing left when it is dropped."""

import datetime as dt
import os
import threading

import pytest

from s3dlio.storage.posix import is_temporary
from s3dlio.transfer.conveyor import Stopped
from s3dlio.transfer.pending import PendingDownload

TIME = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def names(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_parts_in_any_order(tmp_path, open_files):
    before = open_files()
    pending = PendingDownload(str(tmp_path / "new" / "file"))
    assert names(tmp_path) == []
    pending.write_at(3, memoryview(b"def"))
    (temporary,) = names(tmp_path)
    assert is_temporary(temporary)
    pending.write_at(0, memoryview(b"abc"))
    pending.publish(TIME)
    assert (tmp_path / "new" / "file").read_bytes() == b"abcdef"
    assert (tmp_path / "new" / "file").stat().st_mtime == TIME.timestamp()
    assert names(tmp_path) == ["file"]
    assert open_files() == before
    pending.discard()
    assert names(tmp_path) == ["file"]


def test_nothing_is_left_of_a_dropped_one(tmp_path, open_files):
    before = open_files()
    (tmp_path / "file").write_bytes(b"old")
    pending = PendingDownload(str(tmp_path / "file"))
    pending.write_at(0, memoryview(b"new"))
    pending.discard()
    pending.discard()
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
    assert open_files() == before
    with pytest.raises(Stopped):
        pending.write_at(0, memoryview(b"late"))
    with pytest.raises(Stopped):
        pending.publish(None)
    assert names(tmp_path) == ["file"]


def test_dropped_before_the_first_byte(tmp_path):
    pending = PendingDownload(str(tmp_path / "a" / "file"))
    pending.discard()
    assert list(tmp_path.iterdir()) == []


def test_dropped_while_a_part_is_written(tmp_path, monkeypatch, open_files):
    """The descriptor stays open for the thread that still writes: it must not hit a file opened meanwhile."""
    before = open_files()
    pending = PendingDownload(str(tmp_path / "file"))
    inside, go_on = threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slow(descriptor, data, offset):
        inside.set()
        assert go_on.wait(30)
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", slow)
    writer = threading.Thread(target=pending.write_at, args=(0, memoryview(b"late")))
    writer.start()
    assert inside.wait(30)
    pending.discard()
    assert names(tmp_path) == []
    assert len(open_files()) == len(before) + 1
    go_on.set()
    writer.join(30)
    assert open_files() == before
    assert names(tmp_path) == []


def test_short_writes_are_continued(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: pwrite(descriptor, data[:2], offset))
    pending = PendingDownload(str(tmp_path / "file"))
    pending.write_at(0, memoryview(b"abcdefg"))
    pending.publish(None)
    assert (tmp_path / "file").read_bytes() == b"abcdefg"


def test_a_failed_publish_leaves_the_rest_to_discard(tmp_path):
    (tmp_path / "file" / "in").mkdir(parents=True)
    pending = PendingDownload(str(tmp_path / "file"))
    pending.write_at(0, memoryview(b"x"))
    with pytest.raises(IsADirectoryError):
        pending.publish(None)
    pending.discard()
    assert names(tmp_path) == []
