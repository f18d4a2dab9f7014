"""Which objects ``resume`` leaves alone."""

import datetime as dt
import hashlib
import os

import pytest

from s3dlio.storage import open_store
from s3dlio.transfer.download import download
from s3dlio.transfer.resume import Found, is_done
from s3dlio.transfer.selection import Item
from s3dlio.transfer.upload import upload

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
OLD, NEW = b"old", b"new"


def after(seconds):
    return NOON + dt.timedelta(seconds=seconds)


def md5(data):
    return f'"{hashlib.md5(data).hexdigest()}"'


def item(mtime, etag=None, size=3):
    return Item("k", "k", size, etag, mtime)


@pytest.fixture
def new(tmp_path):
    """A file that holds NEW."""
    path = tmp_path / "file"
    path.write_bytes(NEW)
    return str(path)


@pytest.mark.parametrize(("size", "done"), [(3, True), (4, False)])
@pytest.mark.parametrize("times", [(None, NOON), (NOON, None), (NOON, after(1))])
def test_size_and_unknown_times(times, size, done):
    assert is_done(item(times[0]), Found(size, times[1]), source_path=None) is done


@pytest.mark.parametrize(("seconds", "done"), [(-1, False), (1, True), (-0.5, False)])
def test_another_second_decides(new, seconds, done):
    found = Found(3, after(seconds), md5(OLD if done else NEW))
    assert is_done(item(NOON), found, source_path=new) is done


def test_empty_objects_are_equal():
    assert is_done(item(after(5), size=0), Found(0, NOON), source_path=None)


class TestToAStore:
    @pytest.mark.parametrize(("data", "done"), [(OLD, False), (NEW, True)])
    @pytest.mark.parametrize("mtime", [NOON, after(0.9)])
    def test_in_one_second_the_content_decides(self, new, mtime, data, done):
        assert is_done(item(after(0.7)), Found(3, mtime, md5(data)), source_path=new) is done
        assert is_done(item(NOON, md5(NEW)), Found(3, mtime, md5(data)), source_path=None) is done

    @pytest.mark.parametrize("etag", [None, '"0x8DC"', f'{md5(NEW)[:-1]}-1"'])
    def test_in_one_second_without_a_digest_it_goes_again(self, new, etag):
        assert not is_done(item(after(0.7)), Found(3, NOON, etag), source_path=new)

    @pytest.mark.parametrize(("seconds", "done"), [(0.6, False), (0.7, False), (0.8, True)])
    def test_finer_times(self, new, seconds, done):
        assert is_done(item(after(0.7)), Found(3, after(seconds)), source_path=new) is done

    def test_a_file_that_cannot_be_read_goes_to_the_transfer(self, tmp_path):
        assert not is_done(item(NOON), Found(3, NOON, md5(NEW)), source_path=str(tmp_path / "none"))


class TestToAFile:
    @pytest.mark.parametrize(("data", "done"), [(OLD, False), (NEW, True)])
    def test_soon_after_the_object_the_content_decides(self, new, data, done):
        assert is_done(item(NOON, md5(data)), Found(3, NOON, path=new, changed=after(9)), source_path=None) is done

    def test_later_no_file_is_read(self, tmp_path):
        found = Found(3, NOON, path=str(tmp_path), changed=after(61))
        assert is_done(item(NOON, md5(OLD)), found, source_path=None)

    def test_without_a_digest_the_time_is_believed(self, new):
        assert is_done(item(NOON, '"1-2"'), Found(3, NOON, path=new, changed=NOON), source_path=None)

    @pytest.mark.parametrize(("seconds", "done"), [(0.699_998, False), (0.699_999, True), (0.7, True), (0.9, True)])
    def test_finer_times(self, new, seconds, done):
        found = Found(3, after(seconds), path=new, changed=NOON)
        assert is_done(item(after(0.7), md5(OLD)), found, source_path=None) is done


def test_a_file_that_changed_in_the_second_of_its_upload(moto_environment, tmp_path):
    uri = f"s3://{moto_environment.new_container()}"
    path = tmp_path / "t/x"
    path.parent.mkdir()
    path.write_bytes(OLD)
    upload(tmp_path / "t", uri)
    with open_store(uri) as store:
        uploaded = store.head("x").mtime.timestamp()
    path.write_bytes(NEW)
    os.utime(path, (uploaded, uploaded))
    for source, target in ((tmp_path / "t", uri), (path, f"{uri}/x")):
        upload(source, target, resume=True)
        with open_store(uri) as store:
            assert store.get("x").to_pybytes() == NEW
            store.put("x", OLD)
            uploaded = store.head("x").mtime.timestamp()
        os.utime(path, (uploaded, uploaded))


def test_an_object_that_was_replaced_in_the_second_of_its_download(moto_environment, tmp_path):
    uri = f"s3://{moto_environment.new_container()}/x"
    with open_store(uri) as store:
        store.put("x", OLD)
        download(uri, tmp_path / "x")
        store.put("x", NEW)
        second = store.head("x").mtime.timestamp()
    os.utime(tmp_path / "x", (second, second))
    download(uri, tmp_path / "x", resume=True)
    assert (tmp_path / "x").read_bytes() == NEW
    assert download(uri, tmp_path / "x", resume=True).skipped == 1
